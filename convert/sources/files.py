"""The weight files of a checkpoint: safetensors if there are any, otherwise PyTorch's .bin."""

import re
from pathlib import Path

from mlx_llava.checkpoint.hub import FILES, REPOSITORY, fetch
from mlx_llava.checkpoint.reader import read_index
from mlx_llava.checkpoint.regular_file import spell
from mlx_llava.checkpoint.safetensors import Tensor
from mlx_llava.checkpoint.strict_json import read_json
from mlx_llava.convert.torch_bin.archive import damaged, read_file
from mlx_llava.errors import ModelError

SINGLE, INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
SHARD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,200}\.bin")
BIN_FILES = ("*.json", "*.bin", "tokenizer.model")


def tensors_of(folder: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint folder; CheckpointError if it has none, or damaged ones."""
    if not any(folder.glob("*.safetensors*")):
        if (folder / INDEX).exists():
            return _read_shards(folder, read_json(folder / INDEX).get("weight_map"))
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


def _read_shards(folder: Path, shard_of: object) -> dict[str, Tensor]:
    where = spell(folder / INDEX)
    if not isinstance(shard_of, dict) or not shard_of:
        raise damaged(f"{where}: weight_map is not a map of tensors to files")
    if not all(isinstance(shard, str) and SHARD.fullmatch(shard) for shard in shard_of.values()):
        raise damaged(f"{where}: a tensor is not in a plainly named .bin file")
    tensors = {}
    for shard in sorted(set(shard_of.values())):
        for name, tensor in read_file(folder / shard).items():
            if shard_of.get(name) != shard:
                raise damaged(f"{spell(folder / shard)} holds {name[:60]}, which the index puts elsewhere")
            tensors[name] = tensor
    if missing := next((name for name in shard_of if name not in tensors), None):
        raise damaged(f"{spell(folder)}: {str(missing)[:60]!r} is not in the file that the index names")
    return tensors
