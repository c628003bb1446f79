"""Remembers scans in the cache folder, so that later starts neither read nor check the file again.

A scan depends on the file and on how records become examples, and is kept under both. Images are not part of it: they
are looked for at every start.
"""

import hashlib
import io
import json
import os
import time
from contextlib import suppress
from dataclasses import astuple
from pathlib import Path

import numpy as np

from mlx_llava import __version__
from mlx_llava.data.bad_records import BadRecord
from mlx_llava.data.builder import ExampleBuilder
from mlx_llava.data.image_table import ImageTable
from mlx_llava.data.scan import LARGE, Report, Scan, scan
from mlx_llava.program.atomic import write_file
from mlx_llava.program.paths import cache_folder

CHECKS = 2  # increase when a check has another result or message, or a file of the cache another layout
LIMIT = 1 << 29  # bytes of all files; a million records take 45 to 80 MB
CLOCK = 2 * 10**9  # nanoseconds between two times that a file can have: FAT counts in steps of two seconds
DIGEST = hashlib.sha256().digest_size  # a file starts with the digest of its key and its payload


def recall_or_scan(file: Path, builder: ExampleBuilder | None, num_workers: int, report: Report) -> Scan:
    """The scan of a file: an earlier one if neither the file nor the way to check it has changed since."""
    state, started = _state(file), time.time_ns()
    if file.stat().st_size <= LARGE:
        return scan(file, builder, num_workers, report)
    settings = repr([os.path.abspath(file), builder and builder.settings()])  # noqa: PTH100 - follows no links
    name = hashlib.sha256(settings.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    remembered, key = cache_folder() / "scans" / name, repr([__version__, CHECKS, state, settings])
    result = _load(remembered, key)
    if result is None:
        result = scan(file, builder, num_workers, report)
        settled = file.stat().st_mtime_ns < started - CLOCK  # so a change after this moment has another time
        if settled and _state(file) == state:
            _save(remembered, key, result)
    return result


def _state(file: Path) -> tuple[int, ...]:
    """What changes with the content of a file."""
    status = file.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _load(remembered: Path, key: str) -> Scan | None:
    """The scan of a file in the cache; None if there is none, or it is damaged or has another key."""
    try:
        data = remembered.read_bytes()
    except OSError:
        return None
    payload = memoryview(data)[DIGEST:]
    if data[:DIGEST] != _digest(key, payload):
        return None
    with suppress(OSError):
        os.utime(remembered)  # the file used last is removed last
    arrays = np.load(io.BytesIO(payload), allow_pickle=False)
    images = ImageTable(*(arrays[name] for name in ("text", "name_ends", "shown", "counts")))
    fingerprint, stamp, *faulty = json.loads(arrays["others"].tobytes())
    bad, misfits = (tuple(BadRecord(*record) for record in records) for records in faulty)
    return Scan(fingerprint, (stamp[0], stamp[1]), arrays["table"], images, bad, misfits)


def _save(remembered: Path, key: str, result: Scan) -> None:
    """Write a scan to the cache; where that is impossible, the next start scans again."""
    others = [result.fingerprint, result.stamp, [*map(astuple, result.bad)], [*map(astuple, result.misfits)]]
    out = io.BytesIO()
    encoded = np.frombuffer(json.dumps(others).encode(), np.uint8)
    np.savez(out, table=result.table, others=encoded, **vars(result.images))
    payload = out.getvalue()
    with suppress(OSError):
        remembered.parent.mkdir(parents=True, exist_ok=True)
        write_file(remembered, _digest(key, payload) + payload, mode=0o600, durable=False)
        _remove_old(remembered.parent)


def _remove_old(folder: Path) -> None:
    """Remove files that were not used for the longest time, until the others are within the limit."""
    ages = sorted(((file.stat().st_mtime_ns, file) for file in folder.iterdir()), reverse=True)
    total = 0
    for _, file in ages:
        total += file.stat().st_size
        if total > LIMIT:
            file.unlink()


def _digest(key: str, payload: bytes | memoryview) -> bytes:
    digest = hashlib.sha256(key.encode("utf-8", "surrogateescape"))
    digest.update(payload)
    return digest.digest()
