"""PyTorch's .bin files: read where they hold tensors, refused in one line where they hold anything else.

torch itself is asked in tests/parity/test_torch_bin.py.
"""

import io
import json
import os
import pickle
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import arrays, converted, save
from torch_files import (
    MACHINE,
    MAGIC,
    PROTOCOL,
    REBUILD,
    Strided,
    as_stream,
    as_zip,
    number,
    numbers,
    storage,
    strided,
    table,
    tensor,
    word,
    zipped,
)

from mlx_llava.checkpoint.reader import Reader, read_index
from mlx_llava.convert.sources.files import SINGLE
from mlx_llava.convert.torch_bin import allowed_calls, pickles
from mlx_llava.convert.torch_bin.archive import check_sums, read_file, rows
from mlx_llava.errors import CheckpointError

GRID = np.arange(24, dtype=np.float32)
TENSORS = {
    "plain": strided(GRID.reshape(4, 6)),
    "transposed": Strided(GRID, 0, (6, 4), (1, 6)),
    "inner": Strided(GRID, 7, (2, 3), (6, 2)),
    "repeated": Strided(GRID, 3, (5, 2), (0, 1)),
    "one number": Strided(GRID, 5, (), ()),
    "empty": Strided(GRID, 0, (0, 4), (4, 1)),
    "half": strided(GRID.astype(np.float16)),
    "bytes": strided(GRID.astype(np.uint8)),
}


def expected(name: str) -> np.ndarray[Any, Any]:
    t = TENSORS[name]
    strides = [n * t.storage.itemsize for n in t.strides]
    return np.lib.stride_tricks.as_strided(t.storage[t.offset :], t.shape, strides)


@pytest.mark.parametrize("form", [as_zip, as_stream])
def test_tensors_of_every_layout_are_read_row_by_row(form: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(form(TENSORS))
    found = read_file(path)
    assert found.keys() == TENSORS.keys()
    check_sums(found.values())
    with Reader() as reader:
        for name, t in found.items():
            np.testing.assert_array_equal(rows(reader, t, 0, t.num_rows), expected(name), strict=True)
            if t.shape and t.shape[0] > 1:
                np.testing.assert_array_equal(rows(reader, t, 1, 2), expected(name)[1:2], strict=True)


@pytest.mark.parametrize("form", [as_zip, as_stream])
def test_a_checkpoint_in_bin_files_converts_to_the_same_bytes(form: Any, tmp_path: Path) -> None:
    known = converted(save(tmp_path / "known", arrays()), tmp_path / "a", quantize=True)
    source = save(tmp_path / "source", arrays())
    (source / "model.safetensors").unlink()
    names = {}
    for shard in (1, 2):
        part = {name: strided(x) for n, (name, x) in enumerate(arrays().items()) if n % 2 == shard - 1}
        (source / f"pytorch_model-{shard}.bin").write_bytes(form(part))
        names |= dict.fromkeys(part, f"pytorch_model-{shard}.bin")
    (source / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": names}))
    out = converted(source, tmp_path / "b", quantize=True)
    ours, theirs = read_index(out), read_index(known)
    assert ours.keys() == theirs.keys()
    with Reader() as reader:
        assert all(reader.rows(ours[n]).tobytes() == reader.rows(theirs[n]).tobytes() for n in ours)
    (source / "pytorch_model-2.bin").unlink()
    with pytest.raises(CheckpointError, match=r"pytorch_model-2\.bin"):
        converted(source, tmp_path / "c")


def test_a_flipped_byte_is_found_before_anything_is_written(tmp_path: Path) -> None:
    source = save(tmp_path / "source", arrays())
    (source / "model.safetensors").unlink()
    data = bytearray(as_zip({name: strided(x) for name, x in arrays().items()}))
    data[len(data) // 2] ^= 1
    (source / SINGLE).write_bytes(data)
    with pytest.raises(CheckpointError, match="do not match their checksum"):
        converted(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


class Call:
    """Pickles as a call."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def attacks(marker: str) -> Iterator[tuple[str, bytes]]:
    """Pickles that would write the marker file, or that hold what is no tensor."""
    write = f"open({marker!r}, 'w')"
    for protocol in range(6):
        yield f"os.system {protocol}", pickle.dumps(Call(os.system, f"touch {marker}"), protocol)
        yield f"eval {protocol}", pickle.dumps({"w": Call(eval, write)}, protocol)
        yield f"exec {protocol}", pickle.dumps([Call(exec, write)], protocol)
        yield f"a class {protocol}", pickle.dumps(Path(marker), protocol)
    yield "inst", f"(S'touch {marker}'\nios\nsystem\n.".encode()
    yield "obj", b"(cos\nsystem\n" + word(f"touch {marker}") + b"o."
    yield "newobj", b"\x80\x02cbuiltins\nopen\n" + word(marker) + word("w") + b"\x86\x81."
    yield "newobj_ex", b"\x80\x04cbuiltins\nopen\n(" + word(marker) + word("w") + b"t}\x92."
    yield "ext", b"\x80\x02\x82\x01."
    yield "text id", b"Pstorage\n."
    yield "nested", b"\x80\x02ctorch.storage\n_load_from_bytes\n(" + word("x") + b"tR."
    yield "dotted", b"\x80\x04" + word("collections") + word("OrderedDict.__init__") + b"\x93)R."
    yield "a module as a global", b"\x80\x04" + word("torch") + word("load") + b"\x93" + word(marker) + b"\x85R."
    yield "globals as text", b"\x80\x04" + word("collections OrderedDict\nx") + word("y") + b"\x93)R."
    yield "build on a global", b"\x80\x02ctorch\nFloatStorage\n}b."
    yield "build sets attributes", b"\x80\x02ccollections\nOrderedDict\n)R}" + word("update") + b"Nsb."
    yield "a called storage", b"\x80\x02ctorch\nFloatStorage\n)R."
    yield "a called string", b"\x80\x02" + word("os") + b")R."
    yield "a dict from something", b"\x80\x02ccollections\nOrderedDict\n(" + word("x") + b"tR."
    yield "numbers", pickle.dumps({"epoch": 3}, 2)
    yield "a list", pickle.dumps([1], 2)
    yield "bytes", pickle.dumps({"x": b"1"}, 4)
    yield "a set", pickle.dumps({1, 2}, 4)
    yield "nothing", pickle.dumps(None, 2)
    yield "an empty table", pickle.dumps({}, 2)
    yield "a tuple as a key", pickle.dumps({("a",): 1}, 2)
    yield "itself", b"\x80\x02}q\x00" + word("x") + b"h\x00s."
    yield "laughs", b"\x80\x02]q\x00" + b"".join(b"](" + bytes([104, 0]) * 9 + b"eq\x00" for _ in range(40)) + b"."
    yield "deep", b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b"."
    yield "deep tuples", b"\x80\x02)" + b"\x85" * 100_000 + b"."
    yield "laughs for a name", b"\x80\x04)q\x00" + b"h\x00h\x00\x86q\x00" * 40 + b"h\x00h\x00\x93."
    yield "deep tuples for a name", b"\x80\x04)" + b"\x85" * 100_000 + b"q\x00h\x00\x93."
    yield "keys of one hash", b"\x80\x02}\x8a\x08" + (2**61 - 1).to_bytes(8, "little") + b"Ns."
    yield "deep marks", b"\x80\x02" + b"(" * 100_000 + b"."
    yield "flood", b"\x80\x02" + b"N" * 3_000_000 + b"."
    yield "no end", b"\x80\x02}"
    yield "a long word", b"\x80\x04\x8d" + (2**62).to_bytes(8, "little") + b"x."
    yield "a long number", b"\x80\x02\x8b" + (2**31 - 1).to_bytes(4, "little") + b"1."
    yield "a pop too many", b"\x80\x020."
    yield "an unknown memo", b"\x80\x02h\x07."


def tensors_with_a_fault() -> Iterator[tuple[str, bytes]]:
    """One tensor of four floats, wrongly described."""

    def one(offset: bytes, shape: bytes, strides: bytes, kept: bytes = storage("Float", "0", 4)) -> bytes:
        return table({"x": REBUILD + b"(" + kept + offset + shape + strides + b"\x89NtR"})

    yield "offset", one(number(4), numbers((1,)), numbers((1,)))
    yield "negative offset", one(number(-1), numbers((1,)), numbers((1,)))
    yield "too long", one(number(0), numbers((5,)), numbers((1,)))
    yield "stride", one(number(0), numbers((2,)), numbers((4,)))
    yield "negative stride", one(number(3), numbers((2,)), numbers((-1,)))
    yield "negative shape", one(number(0), numbers((-2, -2)), numbers((1, 1)))
    yield "huge", one(number(0), numbers((2**40, 2**40)), numbers((0, 0)))
    yield "huge beside 0", one(number(0), numbers((0, 2**62)), numbers((0, 0)))
    yield "repeated", one(number(0), numbers((2**30,)), numbers((0,)))
    yield "nine axes", one(number(0), numbers((1,) * 9), numbers((1,) * 9))
    yield "axes and strides", one(number(0), numbers((2, 2)), numbers((1,)))
    yield "a float as shape", one(number(0), b"G@\x00\x00\x00\x00\x00\x00\x00\x85", numbers((1,)))
    yield "a bool as shape", one(number(0), b"\x88\x85", numbers((1,)))
    yield "no storage", one(number(0), numbers((4,)), numbers((1,)), b"N")
    yield "another storage", one(number(0), numbers((4,)), numbers((1,)), storage("Float", "7", 4))
    yield "storage of another size", one(number(0), numbers((2,)), numbers((1,)), storage("Float", "0", 3))
    yield "quantized", one(number(0), numbers((4,)), numbers((1,)), storage("QInt8", "0", 16))
    yield "a path as key", one(number(0), numbers((4,)), numbers((1,)), storage("Float", "../data.pkl", 4))


def containers() -> Iterator[tuple[str, bytes]]:
    """Files that are no plain zip of tensors."""
    good = table({"x": tensor(strided(GRID), "0")})
    data = {"0": GRID.tobytes()}
    assert_fine = zipped(good, data)
    yield "cut", assert_fine[:-30]
    yield "cut in the middle", assert_fine[: len(assert_fine) // 2]
    yield "four bytes", assert_fine[:4]
    yield "nothing", b""
    yield "a web page", b"<!doctype html>"
    yield "git lfs", b"version https://git-lfs.github.com/spec/v1\n"
    yield "torchscript", zipped(good, data, **{"constants.pkl": b"", "code/x.py": b""})
    yield "big endian", zipped(good, data, byteorder=b"big")
    yield "two pickles", zipped(good, data) + zipped(good, data)[:-22]
    yield "a list of 128 MB", assert_fine[:-10] + (2**27).to_bytes(4, "little") + assert_fine[-6:]
    yield "another name inside", assert_fine.replace(b"archive/data/0", b"archive/data/1", 1)
    yield "flipped pickle", assert_fine.replace(b"torch", b"tprch", 1)
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            archive.writestr("archive/data.pkl", good)
            archive.writestr("archive/data/0", GRID.tobytes())
        yield f"compressed {method}", buffer.getvalue()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("pickle"))
    yield "tar", buffer.getvalue()
    yield "a bare pickle", good
    head = b"".join(pickle.dumps(value, 2) for value in (MAGIC, PROTOCOL))
    yield "stream, big endian", head + pickle.dumps({**MACHINE, "little_endian": False}, 2) + good
    stream = as_stream({"x": strided(GRID)})
    yield "stream, cut", stream[:-1]
    yield "stream, another count", stream.replace((24).to_bytes(8, "little") + bytes(4), bytes(12))
    yield "stream, foreign keys", stream.replace(pickle.dumps(["0"], 2), pickle.dumps(["1"], 2))


def hostile(marker: str) -> Iterator[tuple[str, bytes]]:
    head = b"".join(pickle.dumps(value, 2) for value in (MAGIC, PROTOCOL, MACHINE))
    for name, data in (*attacks(marker), *tensors_with_a_fault()):
        yield f"zip: {name}", zipped(data, {"0": bytes(16)})
        if not name.startswith("flood"):
            yield f"stream: {name}", head + data + pickle.dumps(["0"], 2) + (4).to_bytes(8, "little") + bytes(16)
            yield f"bare: {name}", data
    yield from containers()


def test_hostile_files_are_refused_in_one_line_and_run_nothing(tmp_path: Path) -> None:
    marker, path, count = tmp_path / "marker", tmp_path / "x.bin", 0
    watched: list[str] = []

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event in ("os.system", "exec", "compile", "import", "subprocess.Popen", "pickle.find_class"):
            watched.append(f"{event} {arguments}")

    watching = False
    sys.addaudithook(watch)
    for name, data in hostile(str(marker)):
        path.write_bytes(data)
        start, watching = time.process_time(), True
        with pytest.raises(CheckpointError) as caught:
            read_file(path)
        watching = False
        assert time.process_time() - start < 10, name  # the flood takes about two
        assert caught.value.problem.isprintable(), name
        assert len(caught.value.problem) < 400, name
        assert not marker.exists(), name
        count += 1
    assert count > 180
    assert not watched


def test_an_attack_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(zipped(pickle.dumps({"w": Call(eval, "1")}, 2), {}))
    with pytest.raises(CheckpointError, match=r"asks for __builtin__\.eval, not a tensor; nothing was executed"):
        read_file(path)
    path.write_bytes(zipped(pickle.dumps({"epoch": 3}, 2), {}))
    with pytest.raises(CheckpointError, match="'epoch' is of kind int, not a tensor; nothing was executed"):
        read_file(path)


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / SINGLE)
    with pytest.raises(CheckpointError, match="not a regular file"):
        read_file(tmp_path / SINGLE)


def test_no_code_of_the_reader_can_import_or_call_by_name() -> None:
    source = "".join(Path(str(file.__file__)).read_text(encoding="utf-8") for file in (pickles, allowed_calls))
    for word_ in ("__import__", "importlib", "getattr", "setattr", "eval(", "exec(", "import pickle\n", "Unpickler"):
        assert word_ not in source


@pytest.mark.filterwarnings("ignore:invalid escape sequence")  # pickletools reads strings of old pickles
def test_mutated_files_are_read_or_refused_and_nothing_else(tmp_path: Path) -> None:
    from fuzz.torch_bin import run

    verdicts = run(3000, seed=0, folder=tmp_path)
    assert verdicts["rejected"] > 500
    assert verdicts["read"] > 100
