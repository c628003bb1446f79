"""A converted folder in the layout of llava-hf, with adapters merged."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx

from mlx_llava import __version__
from mlx_llava.config import Dtype
from mlx_llava.convert.sources.converted_folder import ConvertedFolder
from mlx_llava.convert.targets.image_token import Vocabulary, with_image_token
from mlx_llava.convert.targets.llava_hf import check_form, released_weights, write_files
from mlx_llava.convert.weights.output_folder import EXPORTED, appearing, card
from mlx_llava.convert.weights.plan import DTYPES, OnBytes, Planned, plan_weights, size_of, write_weights
from mlx_llava.program.text import printable

HEAD = """---
library_name: transformers
pipeline_tag: image-text-to-text
---
"""
USE = "A LLaVA in the layout of llava-hf, for transformers' `LlavaForConditionalGeneration` and `AutoProcessor`.\n\n"


@dataclass(frozen=True)
class Export:
    """An export that has been checked and can be written."""

    folder: ConvertedFolder
    vocabulary: Vocabulary
    dtype: mx.Dtype

    def plan(self) -> list[Planned]:
        """Every weight, dequantized, by its released name."""
        return plan_weights(released_weights(self.folder.weights(), self.vocabulary.num_rows), self.dtype, {})

    def lines(self) -> Iterator[str]:
        """Differences from the checkpoint that the folder was converted from."""
        config = self.folder.config
        yield f"prompt template {config.template}, images {config.image.side} pixels, {config.image.fit}"
        if adapters := self.folder.adapters:
            projector = " and the projector" if adapters.projector else ""
            yield f"adapters merged: {len(adapters.layers)} layers{projector}"
        if self.folder.quantized:
            yield f"{len(self.folder.quantized)} layers were quantized: these weights keep the quantization error"
        if new := self.vocabulary.num_rows - config.text.vocab_size:
            yield (
                f"<image> and <pad> are new tokens; the embedding has {new} more rows, each the mean of the others, "
                "which no prompt uses"
            )
        if config.restart_after_image:
            yield "original LLaVA starts a new string after an image; here the text continues, which differs by a space"
        if config.template not in ("vicuna_v1", "v1"):
            yield f"to convert this folder again, add --template {config.template}"


def prepare(folder: ConvertedFolder, dtype: Dtype | None) -> Export:
    """Check that llava-hf has a form for the model; the dtype is its own by default."""
    check_form(folder.config)
    vocabulary = with_image_token((folder.path / "tokenizer.json").read_bytes(), folder.config)
    return Export(folder, vocabulary, DTYPES[dtype] if dtype else folder.dtype)


def write(export: Export, target: Path, *, overwrite: bool, progress: OnBytes) -> None:
    """Write the folder, whole or not at all."""
    plan = export.plan()
    with appearing(target, overwrite, size_of(plan), EXPORTED) as folder:
        write_files(folder, export.folder.config, export.vocabulary, str(export.dtype).removeprefix("mlx.core."))
        title = f"{printable(export.folder.title)}, exported by mlx-llava {__version__}"
        (folder / "README.md").write_text(HEAD + card(title, export.lines(), USE), encoding="utf-8")
        write_weights(folder, plan, progress, "pt")
