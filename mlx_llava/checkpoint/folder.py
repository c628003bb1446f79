"""A converted folder and the model in it. Converts nothing and is strict both ways.

Every tensor the config asks for must be there in its shape, and nothing else may be.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import mlx.core as mx

from mlx_llava.checkpoint.config_json import UNQUANTIZED, from_hf, is_llava, quantized_by
from mlx_llava.checkpoint.config_json.original import tower_name
from mlx_llava.checkpoint.coverage import check_coverage, parameter_forms
from mlx_llava.checkpoint.hub import REPOSITORY
from mlx_llava.checkpoint.quantization import Quantization, quantize_layers, read_quantization
from mlx_llava.checkpoint.reader import read_index
from mlx_llava.checkpoint.regular_file import check_unchanged
from mlx_llava.checkpoint.safetensors import Tensor
from mlx_llava.checkpoint.strict_json import read_json, short
from mlx_llava.config import LlavaConfig
from mlx_llava.errors import LimitError, ModelError
from mlx_llava.models import backend
from mlx_llava.models.llava import Llava
from mlx_llava.program.paths import expand_home
from mlx_llava.program.text import size
from mlx_llava.prompts.tokens import Tokenizer

CONFIG, ADAPTER_CONFIG = "config.json", "adapter_config.json"


@dataclass(frozen=True)
class Checkpoint:
    """A converted folder, loaded."""

    folder: Path
    config: LlavaConfig
    model: Llava
    tokenizer: Tokenizer
    quantized: Mapping[str, Quantization]

    @property
    def stop_ids(self) -> frozenset[int]:
        """Tokens that end an answer."""
        return frozenset((*self.config.eos_token_ids, self.tokenizer.eos_id))


def load(folder: Path) -> Checkpoint:
    """Load a converted folder, weights evaluated on this thread.

    Raises ModelError if the folder is not a converted one, CheckpointError if anything in it does not fit, LimitError
    if the weights would not fit into memory.
    """
    values = converted_config(folder, str(folder))
    config = from_hf(values)
    quantized = read_quantization(values.get("quantization", {}))
    tokenizer = load_tokenizer(folder, config)
    tensors = read_index(folder)
    model = empty_model(config, quantized)
    check_coverage(parameter_forms(model), tensors, str(folder))
    check_memory(tensors.values(), str(folder))
    model.load_weights(list(_weights(tensors.values())))
    backend.adapt_to_device(model)
    mx.eval(model.parameters())
    model.eval()
    return Checkpoint(folder, config, model, tokenizer, quantized)


def converted_config(folder: Path, name: str) -> dict[str, Any]:
    """The config.json of a converted folder that the user calls `name`; ModelError if it is not a converted one."""
    if not (folder / CONFIG).exists():
        raise _no_config(folder, name)
    values = read_json(folder / CONFIG)
    if values.get("mlx_llava") is not None:
        return values
    raise _not_converted(folder, name, values)


def _not_converted(folder: Path, name: str, values: dict[str, Any]) -> ModelError:
    """The error for a folder that holds another program's model; advises to convert what can be converted."""
    kind = short(values.get("model_type"))
    if not is_llava(values):
        return ModelError(f"{name}: not a LLaVA, its model_type is {kind}", "Name a LLaVA that was converted.")
    if method := quantized_by(values, folder):
        return ModelError(f"{name}: quantized by {method}, which cannot be converted", UNQUANTIZED)
    if tower_name(values) is None and values.get("model_type") != "llava":
        problem = f"{name}: its model_type {kind} is not supported"
        return ModelError(problem, "Name a LLaVA-1.5 checkpoint such as llava-hf/llava-1.5-7b-hf.")
    on_hub = REPOSITORY.fullmatch(name) and not expand_home(name).exists()
    pull, convert = f"models pull {quote(name)} -q", f"convert --hf-path {quote(name)} --mlx-path NEW_FOLDER"
    return ModelError(f"{name}: not a converted model", f"Convert it: mlx-llava {pull if on_hub else convert}")


def _no_config(folder: Path, name: str) -> ModelError:
    """The error for a folder without config.json, which may hold adapters."""
    if not folder.is_dir():
        return ModelError(f"{name}: no such folder", "Name a converted folder.")
    if not (folder / ADAPTER_CONFIG).exists():
        problem = f"{name}: no model in it, {CONFIG} is missing"
        return ModelError(problem, "Name a folder that mlx-llava convert, fuse or finetune wrote.")
    advice = "Give them to --adapter-path, and their base to --model."
    if "peft_type" in read_json(folder / ADAPTER_CONFIG):
        advice = f"Merge them into their base: mlx-llava convert --hf-path {quote(name)} --model-base BASE …"
    return ModelError(f"{name}: adapters, not a model", advice)


def load_tokenizer(folder: Path, config: LlavaConfig) -> Tokenizer:
    """The folder's tokenizer.json, checked against the number of embedding rows."""
    return Tokenizer.load(
        folder / "tokenizer.json",
        image_id=config.image_token_id,
        num_rows=config.text.vocab_size,
        restart_after_image=config.restart_after_image,
    )


def empty_model(config: LlavaConfig, quantized: Mapping[str, Quantization]) -> Llava:
    """A model whose weights are not evaluated yet; ConfigError for a layer that cannot be quantized."""
    model = Llava(config)
    quantize_layers(model, quantized)
    return model


def check_memory(tensors: Iterable[Tensor], where: str) -> None:
    """Raise LimitError unless the weights fit, including their conversion to float32, which the CPU needs."""
    to_float32 = backend.on_cpu()
    need = sum(t.num_bytes * (2 if to_float32 and t.dtype in ("F16", "BF16") else 1) for t in tensors)
    limit = backend.memory_limit()
    if need > limit:
        problem = f"{where}: the weights take {size(need)} and {size(limit)} are free"
        raise LimitError(problem, "Convert with fewer bits (-q --q-bits 4), or close other programs.")


def _weights(tensors: Collection[Tensor]) -> Iterator[tuple[str, mx.array]]:
    """All weights in the dtype the device computes in, each evaluated, so that no second copy outlives it.

    MLX reads the files, with several threads. Their headers were checked before; afterwards the files must still be
    the same.
    """
    stamps = {tensor.file: tensor.stamp for tensor in tensors}
    try:
        for file in stamps:
            arrays: dict[str, mx.array] = mx.load(str(file))  # pyright: ignore
            for name in list(arrays):
                array = backend.to_compute_dtype(arrays.pop(name))
                mx.eval(array)
                yield name, array
    finally:  # an error of MLX, too, may be due to a file that changed
        for file, stamp in stamps.items():
            check_unchanged(file, stamp)
