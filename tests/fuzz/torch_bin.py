"""Mutated .bin files: read or refused with a CheckpointError of one line, quickly, and never anything else.

    python tests/fuzz/torch_bin.py --n 60000

Needs neither torch nor a seed corpus: the files are made here. The same `--seed` gives the same files; a failing
one is printed as hex.
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
SECONDS = 5.0  # for one file


def change_bytes(random: Random, data: bytes) -> bytes:
    """Replace up to 8 bytes anywhere by up to 8 others."""
    at = random.randrange(len(data) + 1)
    return data[:at] + random.randbytes(random.randrange(9)) + data[at + random.randrange(9) :]


def flip_bit(random: Random, data: bytes) -> bytes:
    at = random.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]


def cut(random: Random, data: bytes) -> bytes:
    return data[: random.randrange(len(data))]


def change_operation(random: Random, data: bytes) -> bytes:
    """Put an operation of a pickle over a byte, or between two."""
    at = random.randrange(len(data))
    return data[:at] + random.choice(TOKENS) + data[at + random.randrange(2) :]


def copy_part(random: Random, data: bytes) -> bytes:
    """Repeat or move a stretch of the file."""
    start, to = random.randrange(len(data)), random.randrange(len(data))
    return data[:to] + data[start : start + random.randrange(64)] + data[to + random.randrange(2) * 8 :]


MUTATIONS: tuple[Callable[[Random, bytes], bytes], ...] = (change_bytes, flip_bit, cut, change_operation, copy_part)


def mended(data: bytes) -> bytes:
    """The pickle's checksum made right again, so that a changed pickle is looked at."""
    start = data.find(b"\x80\x02}(")
    end = data.find(b"PK\3\4", start)
    if not data.startswith(b"PK") or start < 0 or end < 0:
        return data
    old = data[14:18]
    new = zlib.crc32(data[start:end]).to_bytes(4, "little")
    return data.replace(old, new, 2)


def verdict(path: Path) -> str:
    """What becomes of a file."""
    start = time.process_time()
    try:
        found = read_file(path)
        with Reader() as reader:
            for tensor in found.values():
                assert rows(reader, tensor, 0, tensor.num_rows).shape == tensor.shape
        check_sums(found.values())
        told = "read"
    except CheckpointError as error:
        told = "refused" if error.problem.isprintable() else "refused in several lines"
    assert told in ("read", "refused"), told
    assert time.process_time() - start < SECONDS, "too slow"
    return told


def run(count: int, seed: int, folder: Path) -> Counter[str]:
    """How many of `count` mutated files were read or refused; raises AssertionError with the file's hex."""
    random, verdicts, path = Random(seed), Counter[str](), folder / "x.bin"
    for _ in range(count):
        data = random.choice(SEEDS)
        for _ in range(random.randrange(4)):
            data = random.choice(MUTATIONS)(random, data) or b"\0"
        path.write_bytes(mended(data) if random.random() < 0.7 else data)
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
