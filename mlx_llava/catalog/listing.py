"""The models on this machine: what `mlx-llava models` lists."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlx_llava.catalog.pulled import config_of, is_converted, pulled_models
from mlx_llava.catalog.uses import last_uses
from mlx_llava.checkpoint.config_json import is_llava
from mlx_llava.checkpoint.hub import EMBEDDED, downloads

DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32"}
MAX_HEADER = 100_000_000  # bytes, as in checkpoint/safetensors.py, which needs NumPy

Kind = Literal["bundled", "pulled", "folder", "download"]


@dataclass(frozen=True)
class Entry:
    """One model on this machine."""

    name: str
    """As --model takes it."""
    kind: Kind
    path: Path
    num_bytes: int
    weights: str
    """Bits of quantized weights, or the dtype of others; empty if unknown."""
    source: str
    """What it was converted from."""
    last_used: float | None
    """Seconds since the epoch; None if it was never opened or written by this program."""
    converted: bool


def entries(bundled: Path, copy: Path) -> Iterator[Entry]:
    """The bundled model, pulled models, folders that this program wrote or opened, and LLaVAs in the hub's cache.

    Args:
        bundled: the bundled model's folder.
        copy: the folder that it is converted to.
    """
    uses = last_uses()
    yield _entry(EMBEDDED, "bundled", bundled, uses.get(copy.resolve()))
    listed = {copy.resolve()}
    for path in pulled_models():
        listed.add(path.resolve())
        yield describe(path)
    cached = [*downloads()]
    listed |= {snapshot.resolve() for download in cached for snapshot in download.snapshots}
    for path, time in sorted(uses.items()):
        if path not in listed and is_converted(path):
            yield _entry(str(path), "folder", path, time)
    for download in cached:
        path = next((path for path in download.snapshots if _holds_llava(path)), None)
        if path is not None:
            times = [uses[path.resolve()] for path in download.snapshots if path.resolve() in uses]
            yield _entry(download.name, "download", path, max(times, default=None), download.num_bytes)


def describe(path: Path) -> Entry:
    """A pulled model."""
    return _entry(path.name, "pulled", path, last_uses().get(path.resolve()))


def _entry(name: str, kind: Kind, path: Path, last_used: float | None, num_bytes: int | None = None) -> Entry:
    config = config_of(path)
    ours = config.get("mlx_llava")
    source = ours.get("source") if isinstance(ours, dict) else None
    name_of_source = str(source.get("name", "")) if isinstance(source, dict) else ""
    if num_bytes is None:
        num_bytes = sum(file.stat().st_size for file in path.iterdir() if file.is_file())
    converted = kind == "bundled" or ours is not None
    return Entry(name, kind, path, num_bytes, _weights(path, config), name_of_source, last_used, converted)


def _holds_llava(snapshot: Path) -> bool:
    """Whether a snapshot has a LLaVA's config and weights; only the config is there if it was merely looked at."""
    config = config_of(snapshot)
    weights = any(snapshot.glob("*.safetensors")) or any(snapshot.glob("*.bin"))
    return weights and ("mlx_llava" in config or is_llava(config))


def _weights(folder: Path, config: dict[str, Any]) -> str:
    table = config.get("quantization")
    layers = [layer for layer in table.values() if isinstance(layer, dict)] if isinstance(table, dict) else []
    if layers:
        bits = sorted({str(layer.get("bits")) for layer in layers})
        modes = sorted({str(layer.get("mode")) for layer in layers} - {"affine"})
        return f"{' and '.join(bits)} bits" if not modes else " and ".join(modes)
    return _dtype(folder)


def _dtype(folder: Path) -> str:
    """The dtype of most weights, by the header of the first safetensors file."""
    try:
        with min(folder.glob("*.safetensors")).open("rb") as file:
            header = json.loads(file.read(min(int.from_bytes(file.read(8), "little"), MAX_HEADER)))
        sizes = Counter[str]()
        for name, tensor in header.items():
            if name != "__metadata__":
                sizes[tensor["dtype"]] += tensor["data_offsets"][1] - tensor["data_offsets"][0]
        return DTYPES.get(sizes.most_common(1)[0][0], "")
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # no such file, or a damaged one
        return ""
