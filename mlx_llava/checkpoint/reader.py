"""Tensors of a checkpoint folder, from one safetensors file or from shards with an index, and their rows."""

import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import numpy as np

from mlx_llava.checkpoint.regular_file import Stamp, changed, check_unchanged, damaged, opened, read_at, spell
from mlx_llava.checkpoint.safetensors import DTYPES, MAX_HEADER, Tensor, parse_json, read_header
from mlx_llava.errors import CheckpointError, ModelError
from mlx_llava.program.text import escape

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
# An index names a shard by a plain file name: no folder, no `..`. The file may be a link to anywhere, because the
# Hugging Face cache consists of links to ../../blobs; its target is only read, and only as safetensors.
SHARD = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,200}"


def read_index(folder: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint folder: of its one file, or of exactly the shards that its index names."""
    try:
        files = {entry.name for entry in folder.iterdir()}
    except OSError as error:
        raise CheckpointError(f"{spell(folder)}: {error.strerror}", "Name a folder that can be read.") from None
    if INDEX in files:
        tensors = read_shards(folder / INDEX, ".safetensors", read_header)
        if SINGLE in files and all(tensor.file.name != SINGLE for tensor in tensors.values()):
            raise CheckpointError(f"{spell(folder / INDEX)} does not name {SINGLE}", "Remove the stale one.")
        return tensors
    if SINGLE in files:
        return read_header(folder / SINGLE)
    if any(re.fullmatch(r"model-.*\.safetensors", name) for name in files):
        raise damaged(f"{spell(folder)}: {INDEX} is missing, perhaps an incomplete download")
    if any(name.endswith(".bin") for name in files):
        raise CheckpointError(
            f"{spell(folder)} holds PyTorch files (.bin), but neither safetensors nor a whole pytorch_model",
            "mlx-llava convert reads pytorch_model.bin, or its shards with their index; save others as safetensors.",
        )
    problem = f"{spell(folder)}: no weights in it, neither {SINGLE} nor shards with their index"
    raise ModelError(problem, "Copy them there, or name another folder.")


def read_shards(index: Path, suffix: str, read: Callable[[Path], dict[str, Tensor]]) -> dict[str, Tensor]:
    """All tensors of the shards that an index names, each read by `read`; every name must be where the index says."""
    shard_of, tensors = _weight_map(index, suffix), {}
    for shard in sorted(set(shard_of.values())):
        if not (index.parent / shard).exists():
            raise damaged(f"{spell(index.parent)}: {shard} is missing, perhaps an incomplete download")
        for name, tensor in read(index.parent / shard).items():
            if (owner := shard_of.get(name, "no file")) != shard:
                raise damaged(f"{spell(tensor.file)} holds tensor '{escape(name)}', which the index puts in {owner}")
            tensors[name] = tensor
    for name, shard in shard_of.items():
        if name not in tensors:
            raise damaged(f"{spell(index.parent / shard)} lacks tensor '{escape(name)}', which the index puts there")
    return tensors


def _weight_map(file: Path, suffix: str) -> dict[str, str]:
    """Tensor name to shard, from an index that gives every shard a plain file name."""
    where = spell(file)
    with opened(file) as (descriptor, stamp):
        if stamp.size > MAX_HEADER:
            raise damaged(f"{where} is larger than {MAX_HEADER} bytes")
        text = read_at(descriptor, stamp.size, 0, where)
    shard_of = parse_json(text, where).get("weight_map")
    if not isinstance(shard_of, dict) or not shard_of:
        raise damaged(f"{where}: weight_map is not a map of tensors to files")
    for name, shard in shard_of.items():
        if not isinstance(shard, str) or not re.fullmatch(SHARD + re.escape(suffix), shard):
            raise damaged(f"{where}: tensor '{escape(name)}' is not in a plainly named {suffix} file")
    return shard_of


class Reader:
    """Reads rows through one read-only descriptor per file; leaving its `with` checks that none changed."""

    def __init__(self) -> None:
        self._files: dict[Path, tuple[int, Stamp]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._stack:
            if kind is None:
                for file, (_descriptor, stamp) in self._files.items():
                    check_unchanged(file, stamp)
        self._files.clear()

    def rows(self, tensor: Tensor, start: int = 0, stop: int | None = None) -> np.ndarray[Any, Any]:
        """Rows [start, stop), fresh: [stop - start, *shape[1:]], or [] of a 0-d tensor; bf16 as uint16 bits.

        Raises CheckpointError if the file changed since its header was read.
        """
        stop = tensor.num_rows if stop is None else stop
        if not 0 <= start <= stop <= tensor.num_rows or (start == stop and not tensor.shape):
            raise IndexError(f"rows {start} to {stop} of a tensor of shape {tensor.shape}")
        if tensor.file not in self._files:
            self._files[tensor.file] = self._stack.enter_context(opened(tensor.file))
        descriptor, stamp = self._files[tensor.file]
        if stamp != tensor.stamp:
            raise changed(spell(tensor.file))
        row = tensor.num_bytes // max(tensor.num_rows, 1)
        data = read_at(descriptor, (stop - start) * row, tensor.offset + start * row, spell(tensor.file))
        shape = (stop - start, *tensor.shape[1:]) if tensor.shape else ()
        return np.ndarray(shape, DTYPES[tensor.dtype], data)
