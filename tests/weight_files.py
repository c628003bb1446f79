"""Weight files byte by byte, and the way they are refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fuzz.safetensors_diff import entry, pack

from mlx_llava.errors import CheckpointError

FOUR = bytes(range(4))  # the bytes of one F32


def packed(header: object, body: bytes = FOUR) -> bytes:
    return pack(header if isinstance(header, bytes) else json.dumps(header).encode(), body)


def one(dtype: Any = "F32", shape: Any = (1,), offsets: Any = (0, 4), body: bytes = FOUR, name: str = "a") -> bytes:
    """A file of one tensor."""
    return packed({name: {"dtype": dtype, "shape": shape, "data_offsets": offsets}}, body)


def several(*spans: tuple[int, int], size: int) -> bytes:
    """A file of U8 tensors at these bytes."""
    return packed({f"t{i}": entry("U8", [e - b], b, e) for i, (b, e) in enumerate(spans)}, bytes(size))


def refusal(read: Callable[[Path], object], path: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        read(path)
    return caught.value
