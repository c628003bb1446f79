"""Fuzz our safetensors reader: whatever it accepts, the safetensors package accepts and reads identically.

    python tests/fuzz/safetensors_diff.py --n 10000

Generates its own files, the same ones for the same `--seed`. A failing file is printed as hex.
"""

import argparse
import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import safetensors

from mlx_llava.checkpoint.reader import Reader
from mlx_llava.checkpoint.safetensors import read_header
from mlx_llava.errors import CheckpointError

NUMBERS = (0, 1, 2, 3, 4, 8, 255, 2**31, 2**32 + 4, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30, -1, -2)
WORDS = r'4.0 4.7 true null "" "F32" "BF16" "F8_E4M3" "F4" "\ud800" "\u001b[2J\n" [] [0,4] {} [[]]'.split()
STRANGE = (*NUMBERS, *map(json.loads, WORDS))
TOKENS = (*map(str, NUMBERS), *r'-0 00 1e0 1E400 NaN [ ] { } " , : \u0000 \ud83d'.split(), " ")


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


SEEDS: tuple[dict[str, Any], ...] = (
    {},
    {"a": entry("F32", [], 0, 4)},
    {"a": entry("BF16", [2, 3], 0, 12), "b": entry("U8", [4], 12, 16), "__metadata__": {"format": "pt"}},
    {"b": entry("I64", [0, 5], 8, 8), "a": entry("F64", [1], 0, 8), "c": entry("BOOL", [3], 8, 11)},
    {"😀": entry("F16", [1, 1, 2], 0, 4), "empty": entry("I8", [0], 0, 0), "z": entry("U32", [2], 4, 12)},
)


def pack(header: bytes, body: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + body


def unpack(data: bytes) -> tuple[bytes, bytes]:
    end = 8 + int.from_bytes(data[:8], "little")
    return data[8:end], data[end:]


def valid(random: Random) -> bytes:
    header = random.choice(SEEDS)
    size = max((tensor["data_offsets"][1] for tensor in header.values() if "dtype" in tensor), default=0)
    text = json.dumps(header, ensure_ascii=random.random() < 0.5).encode()
    return pack(text + b" " * random.randrange(4), bytes(random.randrange(2) for _ in range(size)))


def change_bytes(random: Random, data: bytes) -> bytes:
    """Replace up to 8 bytes at a random offset by up to 8 others."""
    at = random.randrange(len(data) + 1)
    return data[:at] + random.randbytes(random.randrange(9)) + data[at + random.randrange(9) :]


def flip_bit(random: Random, data: bytes) -> bytes:
    at = random.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]


def cut(random: Random, data: bytes) -> bytes:
    return data[: random.randrange(len(data))]


def move_header_end(random: Random, data: bytes) -> bytes:
    length = int.from_bytes(data[:8], "little") + random.choice((-8, -1, 1, 8, 100_000_001, 2**63, -(2**63)))
    return (length % 2**64).to_bytes(8, "little") + data[8:]


def change_token(random: Random, data: bytes) -> bytes:
    """Replace one token of the header by another, and correct the header's length."""
    header, body = unpack(data)
    words = re.findall(r"\w+|[^\w]", header.decode())
    words[random.randrange(len(words))] = random.choice((*TOKENS, random.choice(words)))
    return pack("".join(words).encode(), body)


def repeat_member(random: Random, data: bytes) -> bytes:
    """Insert a copy of one `"name": value` into an object of the header, and correct the header's length."""
    header, body = unpack(data)
    members = re.findall(rb'"\w+": (?:"\w+"|\[[^]]*\]|\{[^}]*\})', header) or [b'"a":0']
    at = random.choice([match.end() for match in re.finditer(rb"\{", header)])
    return pack(header[:at] + random.choice(members) + b", " + header[at:], body)


def change_value(random: Random, data: bytes) -> bytes:
    """Put a strange value somewhere in the header, which stays valid JSON, and correct its length."""
    header, body = unpack(data)
    header_json = place = json.loads(header)
    while True:
        extra: list[Any] = ["a", "__metadata__"] if isinstance(place, dict) else [len(place)]
        inside: list[Any] = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = random.choice(inside + extra)
        if key in inside and isinstance(place[key], dict | list) and random.random() < 0.8:
            place = place[key]
            continue
        if key in inside and random.random() < 0.2:
            del place[key]
        elif key in inside or isinstance(place, dict):
            place[key] = random.choice(STRANGE)
        else:
            place.append(random.choice(STRANGE))
        return pack(json.dumps(header_json).encode(), body)


MUTATIONS: tuple[Callable[[Random, bytes], bytes], ...] = (
    change_bytes,
    flip_bit,
    cut,
    move_header_end,
    change_token,
    repeat_member,
    change_value,
)


def theirs(data: bytes) -> dict[str, Any] | None:
    """dtype, shape and bytes of every tensor as the reference reads them; None if it rejects the file."""
    try:
        tensors = dict(safetensors.deserialize(data))
    except safetensors.SafetensorError:
        return None
    return {name: (spec["dtype"], tuple(spec["shape"]), bytes(spec["data"])) for name, spec in tensors.items()}


def ours(file: Path) -> dict[str, Any] | str:
    """The same as our reader reads them; the error text if it rejects the file."""
    try:
        tensors = read_header(file).values()
        with Reader() as reader:
            return {t.name: (t.dtype, t.shape, reader.rows(t).tobytes()) for t in tensors}
    except CheckpointError as error:
        return error.problem


def verdict(data: bytes, file: Path) -> str:
    """Which readers accept these bytes; raises AssertionError if ours is laxer or reads other values."""
    file.write_bytes(data)
    reference, result = theirs(data), ours(file)
    if isinstance(result, str):
        assert result.isprintable(), "an error text of several lines"
        return "rejected by both" if reference is None else "rejected by ours only"
    assert result == reference, "accepted a file that the reference rejects or reads differently"
    return "read identically by both"


def run(count: int, seed: int) -> Counter[str]:
    """Count the verdicts on `count` mutated files; a failure raises AssertionError with the file as hex."""
    random = Random(seed)
    verdicts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(count):
            data = valid(random)
            if random.random() < 0.9:
                data = random.choice(MUTATIONS)(random, data)
            try:
                verdicts[verdict(data, Path(folder, "model.safetensors"))] += 1
            except Exception as error:
                raise AssertionError(f"{error!r} from the file {data.hex()}") from error
    return verdicts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000, help="number of files")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name, count in run(options.n, options.seed).most_common():
        sys.stdout.write(f"{count:8}  {name}\n")


if __name__ == "__main__":
    main()
