"""The weight files of a checkpoint: safetensors if there are any, otherwise PyTorch's .bin."""

from pathlib import Path

from mlx_llava.checkpoint.hub import FILES, REPOSITORY, fetch
from mlx_llava.checkpoint.reader import read_index, read_shards
from mlx_llava.checkpoint.safetensors import Tensor
from mlx_llava.convert.torch_bin.archive import read_file
from mlx_llava.errors import ModelError

SINGLE, INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
BIN_FILES = ("*.json", "*.bin", "tokenizer.model")


def tensors_of(folder: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint folder; CheckpointError if it has none, or damaged ones."""
    if not any(folder.glob("*.safetensors*")):
        if (folder / INDEX).exists():
            return read_shards(folder / INDEX, ".bin", read_file)
        if (folder / SINGLE).exists():
            return read_file(folder / SINGLE)
    return read_index(folder)


def fetch_checkpoint(name: str, revision: str | None = None, *, with_bin: bool = False) -> Path:
    """The folder `name`, or the local copy of the hub repository; .bin weights only if it has no others.

    Args:
        with_bin: always with .bin files: LLaVA's adapter folders have some beside safetensors.
    """
    if with_bin:
        return fetch(name, revision, (*FILES, "*.bin"))
    try:
        return fetch(name, revision, FILES)
    except ModelError:
        if not REPOSITORY.fullmatch(name):
            raise
        folder = fetch(name, revision, BIN_FILES)
        if not any(folder.glob("*.bin")):
            raise
        return folder
