"""Fuzz our reader of .bin files: each is read, or rejected with a one-line CheckpointError, within seconds.

    python tests/fuzz/torch_bin.py --n 60000

Needs no torch. Generates its own files, the same ones for the same `--seed`. A failing file is printed as hex.
"""

import argparse
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from torch_files import Strided, as_stream, as_zip, strided

from mlx_llava.checkpoint.reader import Reader
from mlx_llava.convert.torch_bin.archive import check_sums, read_file, rows
from mlx_llava.errors import CheckpointError

NUMBERS = np.arange(12, dtype=np.float32)
TENSORS = {"a": strided(NUMBERS.reshape(3, 4)), "b": Strided(NUMBERS, 1, (2, 3), (1, 2)), "c": strided(NUMBERS[:0])}
SEEDS = (as_zip(TENSORS), as_stream(TENSORS), as_zip({"x": strided(NUMBERS)}), as_stream({"x": strided(NUMBERS)}))
TOKENS = (*(bytes([n]) for n in b"()]}.0RQbqhcNtsue\x80\x81\x85\x86\x87\x88\x8a\x8b\x92\x93\x94\x95"), b"cos\nsystem\n")
MAX_SECONDS = 5.0  # CPU time per file


def change_bytes(random: Random, data: bytes) -> bytes:
    """Replace up to 8 bytes at a random offset by up to 8 others."""
    at = random.randrange(len(data) + 1)
    return data[:at] + random.randbytes(random.randrange(9)) + data[at + random.randrange(9) :]


def flip_bit(random: Random, data: bytes) -> bytes:
    at = random.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]


def cut(random: Random, data: bytes) -> bytes:
    return data[: random.randrange(len(data))]


def change_operation(random: Random, data: bytes) -> bytes:
    """Overwrite a byte with a pickle opcode, or insert one."""
    at = random.randrange(len(data))
    return data[:at] + random.choice(TOKENS) + data[at + random.randrange(2) :]


def copy_part(random: Random, data: bytes) -> bytes:
    """Copy up to 63 bytes to another offset, inserting them or replacing 8 bytes there."""
    start, to = random.randrange(len(data)), random.randrange(len(data))
    return data[:to] + data[start : start + random.randrange(64)] + data[to + random.randrange(2) * 8 :]


MUTATIONS: tuple[Callable[[Random, bytes], bytes], ...] = (change_bytes, flip_bit, cut, change_operation, copy_part)


def with_valid_checksum(data: bytes) -> bytes:
    """The file with the pickle's CRC-32 recomputed, so that the reader parses a changed pickle."""
    start = data.find(b"\x80\x02}(")
    end = data.find(b"PK\3\4", start)
    if not data.startswith(b"PK") or start < 0 or end < 0:
        return data
    old = data[14:18]
    new = zlib.crc32(data[start:end]).to_bytes(4, "little")
    return data.replace(old, new, 2)


def verdict(path: Path) -> str:
    """Whether a file is read or rejected; raises AssertionError for anything else."""
    start = time.process_time()
    try:
        tensors = read_file(path)
        with Reader() as reader:
            for tensor in tensors.values():
                assert rows(reader, tensor, 0, tensor.num_rows).shape == tensor.shape
        check_sums(tensors.values())
        outcome = "read"
    except CheckpointError as error:
        outcome = "rejected" if error.problem.isprintable() else "rejected with several lines"
    assert outcome in ("read", "rejected"), outcome
    assert time.process_time() - start < MAX_SECONDS, "too slow"
    return outcome


def run(count: int, seed: int, folder: Path) -> Counter[str]:
    """Count the verdicts on `count` mutated files; a failure raises AssertionError with the file as hex."""
    random, verdicts, path = Random(seed), Counter[str](), folder / "x.bin"
    for _ in range(count):
        data = random.choice(SEEDS)
        for _ in range(random.randrange(4)):
            data = random.choice(MUTATIONS)(random, data) or b"\0"
        path.write_bytes(with_valid_checksum(data) if random.random() < 0.7 else data)
        try:
            verdicts[verdict(path)] += 1
        except Exception as error:
            raise AssertionError(f"{error!r} from the file {path.read_bytes().hex()}") from error
    return verdicts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000, help="number of files")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, count in run(options.n, options.seed, Path(folder)).most_common():
            sys.stdout.write(f"{count:8}  {name}\n")


if __name__ == "__main__":
    main()
