"""Opens every image of a dataset before it is trained on, and remembers which files were readable.

A file that keeps its path, size and modification time is opened once, whichever runs use it.
"""

import hashlib
import importlib.metadata
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlx_llava.config import ImageConfig
from mlx_llava.data.bad_records import BadRecord, refusal
from mlx_llava.data.examples import Examples
from mlx_llava.data.loader import loader
from mlx_llava.errors import ImageError
from mlx_llava.images.pixels import check_shape, open_image
from mlx_llava.program.atomic import write_file
from mlx_llava.program.paths import cache_folder

CHUNK = 64  # records whose images are opened in one job
Keys = NDArray[np.uint64]
Fault = tuple[str, str]  # problem, advice


@dataclass(frozen=True, eq=False)
class ImageCheck:
    """Opens images that are not known to be readable; can be sent to a worker."""

    config: ImageConfig
    readable: Keys
    """Sorted keys of readable files."""

    def __call__(self, paths: Sequence[Path]) -> tuple[list[int], dict[Path, Fault]]:
        """The keys of files found to be readable, and the faults of the others."""
        keys, faults = list[int](), dict[Path, Fault]()
        for path in paths:
            key = _key(path)
            if key is not None and self._is_readable(key):
                continue
            try:
                check_shape(open_image(path, "training").size, self.config, str(path))
            except ImageError as error:
                faults[path] = error.problem, error.advice
            else:
                keys += [] if key is None else [key]
        return keys, faults

    def _is_readable(self, key: int) -> bool:
        place = np.searchsorted(self.readable, np.uint64(key))
        return bool(place < len(self.readable) and self.readable[place] == key)


def with_readable_images(
    examples: Examples, *, leave_out: bool = False, num_workers: int = 0, report: Callable[[int], None]
) -> Examples:
    """Open all images; records with an unreadable one raise ImageError, or are left out.

    Args:
        report: is called with the number of records whose images are done.
    """
    builder = examples.builder
    memory = _memory(builder.images or Path(), builder.image)
    check = ImageCheck(builder.image, _recall(memory))
    keys, faults = list[int](), dict[Path, Fault]()
    try:
        with loader(check, _jobs(examples), num_workers if len(examples) > CHUNK else 0) as results:
            for num_records, (new_keys, new_faults) in results:
                keys += new_keys
                faults |= new_faults
                report(num_records)
    finally:
        _remember(memory, check.readable, keys)
    bad = _bad_records(examples, faults) if faults else {}
    if bad and not (leave_out and len(bad) < len(examples)):
        error = refusal(examples.dataset.file, list(bad.values()), may_leave_out=len(bad) < len(examples))
        raise ImageError(error.problem, error.advice)
    return replace(examples, dataset=examples.dataset.without(bad))


def _jobs(examples: Examples) -> Iterator[tuple[int, list[Path]]]:
    """The images of each chunk of records without those of earlier ones, with the number of records so far."""
    seen = set[int]()  # hashes, which take less memory than paths
    for start in range(0, len(examples), CHUNK):
        indices = range(len(examples))[start : start + CHUNK]
        records = examples.dataset.records(indices)
        paths = dict.fromkeys(path for record in records for path in examples.builder.image_paths(record))
        new = [path for path in paths if hash(path) not in seen]
        seen.update(map(hash, new))
        yield indices.stop, new


def _bad_records(examples: Examples, faults: dict[Path, Fault]) -> dict[int, BadRecord]:
    """The records, by index, with one of these images."""
    bad = dict[int, BadRecord]()
    for index, record in enumerate(examples.dataset):
        for path in examples.builder.image_paths(record):
            if path in faults:
                bad.setdefault(index, examples.dataset.bad_record(index, *faults[path]))
    return bad


def _key(path: Path) -> int | None:
    """Identifies a file with its size and modification time; None if it cannot be found."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    text = f"{os.path.abspath(path)} {status.st_size} {status.st_mtime_ns}"  # noqa: PTH100 - follows no links
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little")


def _memory(folder: Path, config: ImageConfig) -> Path:
    """The file that remembers the readable images of a folder, for this Pillow and this way to crop."""
    settings = [os.path.abspath(folder), importlib.metadata.version("pillow"), config.side, config.fit]  # noqa: PTH100
    name = hashlib.sha256(repr(settings).encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return cache_folder() / "readable-images" / f"{name}.npy"


def _recall(file: Path) -> Keys:
    try:
        keys = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return np.zeros(0, np.uint64)
    return keys if keys.dtype == np.uint64 and keys.ndim == 1 else np.zeros(0, np.uint64)


def _remember(file: Path, readable: Keys, keys: Iterable[int]) -> None:
    new = np.fromiter(keys, np.uint64)
    if not len(new):
        return
    out = io.BytesIO()
    np.save(out, np.union1d(readable, new))
    with suppress(OSError):  # without this memory, the next run opens them again
        file.parent.mkdir(parents=True, exist_ok=True)
        write_file(file, out.getvalue(), durable=False)
