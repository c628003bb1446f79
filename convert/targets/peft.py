"""Our adapters as the folder that PEFT loads onto transformers' LlavaForConditionalGeneration.

Module names are those of transformers 4.52 and later. A projector that was trained too is one of PEFT's
`modules_to_save`.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlx_llava.config import Dtype
from mlx_llava.convert.sources.converted_folder import ConvertedFolder, FolderAdapters
from mlx_llava.convert.weights.algebra import InMemory
from mlx_llava.convert.weights.output_folder import EXPORTED, appearing
from mlx_llava.convert.weights.plan import DTYPES
from mlx_llava.errors import ConversionError
from mlx_llava.models.lora import LAYERS, Lora
from mlx_llava.program.text import printable

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model.model."  # PEFT's wrapper, its LoraModel, the LLaVA below its head
PROJECTOR = "multi_modal_projector"
# Regular expressions match whole paths: a list of names would reach the vision tower too.
TARGETS = r"model\.language_model\.layers\.\d+\.(" + "|".join(map(re.escape, LAYERS)) + ")"


def write_peft(target: Path, base: ConvertedFolder, dtype: Dtype, *, overwrite: bool) -> None:
    """Write the adapters of a converted folder; ConversionError if there are none."""
    adapters = base.adapters
    if adapters is None or adapters.lora is None:
        problem = "the adapter folder holds a projector alone, and PEFT needs adapters"
        raise ConversionError(problem, "Leave --peft out to export the whole model.")
    tensors = {name: array.astype(DTYPES[dtype]) for name, array in _tensors(adapters)}
    num_bytes = sum(array.nbytes for array in tensors.values())
    with appearing(target, overwrite, num_bytes, EXPORTED) as folder:
        mx.save_safetensors(str(folder / WEIGHTS), tensors, {"format": "pt"})
        values = _config(adapters.lora, base.source, bool(adapters.projector))
        (folder / CONFIG).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        card = f"# Adapters for {printable(base.title)}, exported by mlx-llava\n\nLoad them with PEFT.\n"
        (folder / "README.md").write_text(f"---\nlibrary_name: peft\n---\n{card}", encoding="utf-8")


def _tensors(adapters: FolderAdapters) -> Iterator[tuple[str, mx.array]]:
    for path, delta in adapters.layers.items():
        for name, part in (("lora_A", delta.a), ("lora_B", delta.b)):
            if isinstance(part, InMemory):
                yield f"{PREFIX}{path}.{name}.weight", part.array.T
    for name, array in adapters.projector.items():
        yield f"{PREFIX}{PROJECTOR}.{name.removeprefix('projector.')}", array


def _config(lora: Lora, base: str, projector: bool) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "r": lora.rank,
        "lora_alpha": int(lora.alpha) if float(lora.alpha).is_integer() else lora.alpha,
        "lora_dropout": lora.dropout,
        "bias": "none",
        "target_modules": TARGETS,
        "modules_to_save": [PROJECTOR] if projector else None,
        "inference_mode": True,
    }
