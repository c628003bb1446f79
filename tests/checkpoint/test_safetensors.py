"""Weight files: whatever is wrong with one is a single readable line, and what is read is what was written."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors
from fuzz.safetensors_diff import entry, pack, run
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file
from weight_files import one, packed, refusal, several

from mlx_llava.checkpoint.reader import Reader, read_index
from mlx_llava.checkpoint.regular_file import PIECE
from mlx_llava.checkpoint.safetensors import DTYPES, MAX_HEADER, MAX_PARTS, Tensor, read_header
from mlx_llava.errors import CheckpointError

HOSTILE = {
    "empty file": (b"", "has only 0 bytes, perhaps an incomplete download"),
    "short file": (b"\x10\0\0", "has only 3 bytes, perhaps an incomplete download"),
    "cut in the header": (one()[:30], "ends within its header, perhaps an incomplete download"),
    "cut in the data": (
        one()[:-1],
        f"'a' ends at byte {len(one())} of {len(one()) - 1}, perhaps an incomplete download",
    ),
    "cut before the data": (
        one()[:-4],
        f"'a' ends at byte {len(one())} of {len(one()) - 4}, perhaps an incomplete download",
    ),
    "zeros": (bytes(100), "the header does not start with {"),
    "web page": (b"<!DOCTYPE html><html>", "not a safetensors file, perhaps a Git LFS pointer or a web page"),
    "git lfs pointer": (b"version https://git-lfs.github.com/spec/v1\n", "perhaps a Git LFS pointer"),
    "header of 2^63 bytes": ((2**63).to_bytes(8, "little") + b"{}", "not a safetensors file"),
    "header of 100 MB": ((MAX_HEADER + 1).to_bytes(8, "little") + b"{}", "not a safetensors file"),
    "header length is a byte too long": (pack(one()[8:-3], b""), "the header is not valid: Extra data"),
    "header length is a byte too short": (pack(one()[8:-5], b"}"), "the header is not valid: Expecting"),
    "header starts with a space": (packed(b" {}", b""), "does not start with {"),
    "header starts with a byte order mark": (packed(b"\xef\xbb\xbf{}", b""), "does not start with {"),
    "header is UTF-16": (packed("{}".encode("utf-16-le"), b""), "the header is not valid"),
    "header is Latin-1": (packed('{"é": 1}'.encode("latin-1"), b""), "not valid: 'utf-8' codec can't decode"),
    "header is a list": (packed([]), "does not start with {"),
    "header ends early": (packed(b'{"a": '), "the header is not valid: Expecting value"),
    "header goes on after its end": (packed(b"{}\0"), "the header is not valid: Extra data"),
    "header holds NaN": (packed(b'{"a": NaN}'), "'a' is not described"),
    "header is nested deeply": (packed(b'{"a": ' + b"[" * 100_000), "nested too deeply"),
    "header has too many parts": (packed(b"{" + b"," * MAX_PARTS), "more than 2000000 brackets and commas"),
    "half a surrogate pair": (packed(rb'{"\ud800": 1}'), "surrogates not allowed"),
    "half a surrogate pair in metadata": (packed(rb'{"__metadata__": {"a": "\udc00"}}', b""), "surrogates not allowed"),
    "raw control character": (packed(b'{"a\n": 1}'), "Invalid control character"),
    "two tensors of one name": (packed(b'{"a": {}, "a": {}}'), '"a" appears twice'),
    "a key twice": (packed(b'{"a": {"dtype": "F32", "dtype": "F32"}}'), '"dtype" appears twice'),
    "metadata is text": (packed({"__metadata__": "pt"}, b""), "__metadata__ is not a map"),
    "metadata of numbers": (packed({"__metadata__": {"step": 1}}, b""), "__metadata__ is not a map of strings"),
    "entry is a list": (packed({"a": ["F32", [1], [0, 4]]}), "'a' is not described by dtype, shape and"),
    "entry without shape": (packed({"a": {"dtype": "F32", "data_offsets": [0, 4]}}), "'a' is not described"),
    "entry with more": (packed({"a": {**entry("F32", [1], 0, 4), "stride": [1]}}), "'a' is not described"),
    "dtype is a number": (one(dtype=32), "its dtype is not a string"),
    "dtype is a list": (one(dtype=["F32"]), "its dtype is not a string"),
    "dtype in lower case": (one(dtype="f32"), "dtype f32 is not supported"),
    "float8": (one(dtype="F8_E4M3", shape=[4]), "dtype F8_E4M3 is not supported"),
    "half a byte": (one(dtype="F4", shape=[8]), "dtype F4 is not supported"),
    "shape is a number": (one(shape=1), "its shape is not a list of at most 8 counts"),
    "negative dims": (one(shape=[-1, -1]), "its shape is not a list"),
    "minus zero": (packed(b'{"a": {"dtype": "F32", "shape": [-0], "data_offsets": [0, 0]}}', b""), "its shape"),
    "float dims": (one(shape=[1.0]), "its shape is not a list"),
    "bool dims": (one(shape=[True]), "its shape is not a list"),
    "text dims": (one(shape=["1"]), "its shape is not a list"),
    "dims of dims": (one(shape=[[1]]), "its shape is not a list"),
    "nine dims": (one(shape=[1] * 9), "its shape is not a list of at most 8"),
    "dim of 2^64": (one(shape=[2**64 + 1]), "its shape is not a list"),
    "dim of a thousand digits": (one(shape=[10**1000]), "its shape is not a list"),
    "dim of ten thousand digits": (
        packed(b'{"a": {"dtype": "F32", "shape": [' + b"1" * 10_000 + b'], "data_offsets": [0, 4]}}'),
        "its shape is not a list",
    ),
    "dim of 2^32 + 1": (one(shape=[2**32 + 1]), "needs 17179869188 bytes, the file has 4 for it"),
    "product wraps to 4 bytes": (one("U8", [4, 2**31 + 1, 2**31]), "too large for any file"),
    "product wraps to 16 bytes": (one(shape=[4, 242243305, 49477, 384773]), "too large for any file"),
    "product wraps beside a zero": (one(shape=[2**62, 8, 0], offsets=[0, 0], body=b""), "too large for any file"),
    "shape larger than its bytes": (one(shape=[2]), "F32 of shape [2] needs 8 bytes, the file has 4 for it"),
    "shape smaller than its bytes": (one(shape=[0]), "F32 of shape [0] needs 0 bytes, the file has 4 for it"),
    "scalar of two": (one(shape=[], offsets=[0, 8], body=bytes(8)), "needs 4 bytes, the file has 8 for it"),
    "offsets are text": (one(offsets="04"), "data_offsets are not a begin and an end"),
    "offsets are floats": (one(offsets=[0.0, 4.0]), "data_offsets are not"),
    "one offset": (one(offsets=[4]), "data_offsets are not"),
    "three offsets": (one(offsets=[0, 4, 4]), "data_offsets are not"),
    "negative offsets": (one(offsets=[-4, 0]), "data_offsets are not"),
    "end before begin": (one(offsets=[4, 0]), "data_offsets are not"),
    "offsets near 2^64": (one(offsets=[2**64 - 4, 2**64]), "data_offsets are not"),
    "offsets near 2^63": (one(offsets=[2**63 - 5, 2**63 - 1]), "'a' follows a gap"),
    "offsets beyond the file": (one(shape=[2], offsets=[0, 8]), "'a' ends at byte 77 of 73"),
    "two tensors share bytes": (several((0, 4), (2, 6), size=6), "'t1' overlaps another"),
    "one tensor within another": (several((0, 6), (2, 4), size=6), "'t1' overlaps another"),
    "two tensors of the same bytes": (several((0, 4), (0, 4), size=4), "'t1' overlaps another"),
    "hole at the start": (several((1, 4), size=4), "'t0' follows a gap of 1 bytes"),
    "hole in the middle": (several((0, 2), (4, 6), size=6), "'t1' follows a gap of 2 bytes"),
    "trailing bytes": (several((0, 4), size=6), "has 2 bytes after its last tensor"),
    "bytes of no tensor": (packed({}), "has 4 bytes after its last tensor"),
    "empty tensor in a hole": (several((0, 2), (3, 3), size=3), "'t1' follows a gap"),
}
STRICTER = {  # than the reference, by decision
    "header starts with a space",
    "two tensors of one name",
    "metadata is null",
    "entry is a list",
    "entry with more",
    "float8",
    "half a byte",
    "nine dims",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_one_line_that_names_it(name: str, tmp_path: Path) -> None:
    data, words = HOSTILE[name]
    file = tmp_path / "model.safetensors"
    file.write_bytes(data)
    error = refusal(read_header, file)
    assert error.problem.startswith(str(file))
    assert words in error.problem
    assert error.problem.isprintable()
    assert error.advice.isprintable()


@pytest.mark.parametrize("name", [name for name in HOSTILE if name not in STRICTER])
def test_the_reference_refuses_the_same_file(name: str) -> None:
    with pytest.raises(safetensors.SafetensorError):
        safetensors.deserialize(HOSTILE[name][0])


@pytest.mark.parametrize("name", ["a\nb", "\x1b[2J", "\u202egnp", "\x00", "é" * 10**6, "\n" * 10**6, ""])
def test_a_tensor_name_cannot_break_or_flood_the_message(name: str, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(one(dtype="F8_E4M3", name=name))
    problem = refusal(read_header, file).problem
    assert problem.isprintable()
    assert len(problem) < len(str(file)) + 130


def test_a_dtype_cannot_flood_the_message(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(one(dtype="\x1b" * 10**6))
    assert len(refusal(read_header, file).problem) < len(str(file)) + 130


def test_what_is_not_a_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "dangling").symlink_to("nowhere")
    assert "not a regular file" in refusal(read_header, tmp_path / "fifo").problem
    assert "not a regular file" in refusal(read_header, tmp_path).problem
    assert "No such file" in refusal(read_header, tmp_path / "dangling").problem


def test_mutated_files_are_refused_or_read_as_the_reference_reads_them() -> None:
    verdicts = run(300, seed=1)
    assert set(verdicts) == {"rejected by both", "rejected by ours only", "read identically by both"}


ARRAYS = {
    f"{dtype}{list(shape)}": (dtype, np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(DTYPES[dtype]))
    for dtype in DTYPES
    for shape in ((), (0, 3), (3, 0), (5,), (4, 3, 2))
}


@pytest.fixture(scope="module")
def tensors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """All of ARRAYS, written by the reference."""
    file = tmp_path_factory.mktemp("checkpoint") / "model.safetensors"
    specs = {
        name: safetensors.TensorSpec(
            dtype="bfloat16" if dtype == "BF16" else array.dtype.name,
            shape=list(array.shape),
            data_ptr=array.ctypes.data,
            data_len=array.nbytes,
        )
        for name, (dtype, array) in ARRAYS.items()
    }
    safetensors.serialize_file(specs, file, metadata={"format": "pt"})
    return read_header(file)


def test_every_dtype_and_rank_is_found_as_the_reference_wrote_it(tensors: dict[str, Tensor]) -> None:
    found = {name: (tensor.dtype, tensor.shape, tensor.num_bytes) for name, tensor in tensors.items()}
    assert found == {name: (dtype, array.shape, array.nbytes) for name, (dtype, array) in ARRAYS.items()}


@given(data=st.data())
def test_rows_are_slices_of_the_array(tensors: dict[str, Tensor], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(name for name, (_, array) in ARRAYS.items() if array.ndim)))
    array = ARRAYS[name][1]
    start = data.draw(st.integers(0, len(array)))
    stop = data.draw(st.integers(start, len(array)))
    with Reader() as reader:
        rows = reader.rows(tensors[name], start, stop)
    np.testing.assert_array_equal(rows, array[start:stop], strict=True)


@pytest.mark.parametrize("name", ARRAYS)
def test_all_rows_are_the_array(name: str, tensors: dict[str, Tensor]) -> None:
    with Reader() as reader:
        np.testing.assert_array_equal(reader.rows(tensors[name]), ARRAYS[name][1], strict=True)


def test_a_scalar_is_one_row(tensors: dict[str, Tensor]) -> None:
    with Reader() as reader:
        assert reader.rows(tensors["I64[]"], 0, tensors["I64[]"].num_rows).shape == ()


def test_rows_may_be_written_to(tensors: dict[str, Tensor]) -> None:
    with Reader() as reader:
        reader.rows(tensors["I64[5]"])[0] = 7
        assert reader.rows(tensors["I64[5]"])[0] == 0


@pytest.mark.parametrize(
    ("name", "start", "stop"), [("U8[5]", -1, 2), ("U8[5]", 3, 2), ("U8[5]", 0, 6), ("U8[]", 0, 0)]
)
def test_rows_outside_of_a_tensor_are_the_callers_mistake(
    name: str, start: int, stop: int, tensors: dict[str, Tensor]
) -> None:
    with Reader() as reader, pytest.raises(IndexError):
        reader.rows(tensors[name], start, stop)


def test_a_tensor_larger_than_one_read_is_whole(tmp_path: Path) -> None:
    array = np.arange(2 * PIECE + 3, dtype=np.uint8)
    save_file({"a": array}, tmp_path / "model.safetensors")
    with Reader() as reader:
        assert np.array_equal(reader.rows(read_header(tmp_path / "model.safetensors")["a"]), array)


def test_files_saved_by_the_reference_from_numpy_are_read(tmp_path: Path) -> None:
    save_file({name: array for name, (_, array) in ARRAYS.items()}, tmp_path / "model.safetensors")
    with Reader() as reader:
        for name, tensor in read_index(tmp_path).items():
            np.testing.assert_array_equal(reader.rows(tensor), ARRAYS[name][1], strict=True)


def shorten(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1)


def rewrite(file: Path) -> None:
    file.write_bytes(file.read_bytes())
    os.utime(file, ns=(1, 1))  # clocks of file systems are coarse


def replace(file: Path) -> None:
    twin = file.with_name("twin")
    twin.write_bytes(file.read_bytes())
    twin.replace(file)


CHANGES = pytest.mark.parametrize("change", [shorten, rewrite, replace, Path.unlink])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of two tensors, t0 and t1."""
    file = tmp_path / "model.safetensors"
    file.write_bytes(several((0, 1), (1, 4), size=4))
    return file


@CHANGES
def test_a_file_changed_between_header_and_rows_is_an_error(change: Callable[[Path], None], file: Path) -> None:
    tensor = read_header(file)["t0"]
    change(file)
    with Reader() as reader, pytest.raises(CheckpointError, match=r"changed while it was read|No such file"):
        reader.rows(tensor)


def read_around(change: Callable[[Path], None], file: Path, *names: str) -> None:
    """Read t0, change the file, read the tensors of these names."""
    tensors = read_header(file)
    with Reader() as reader:
        reader.rows(tensors["t0"])
        change(file)
        for name in names:
            reader.rows(tensors[name])


@CHANGES
def test_a_file_changed_after_its_rows_were_read_is_an_error(change: Callable[[Path], None], file: Path) -> None:
    with pytest.raises(CheckpointError, match="changed while it was read"):
        read_around(change, file)


def test_a_file_that_shrinks_between_two_reads_is_an_error(file: Path) -> None:
    with pytest.raises(CheckpointError, match="changed while it was read"):
        read_around(shorten, file, "t1")


def test_an_error_on_the_way_is_not_hidden_by_a_changed_file(file: Path) -> None:
    with pytest.raises(KeyError):
        read_around(shorten, file, "t2")


def test_nothing_stays_open(file: Path) -> None:
    before = sorted(Path("/dev/fd").iterdir())
    read_around(lambda _: None, file)
    with pytest.raises(CheckpointError):
        read_around(Path.unlink, file)
    for data, _ in HOSTILE.values():
        file.write_bytes(data)
        refusal(read_header, file)
    assert sorted(Path("/dev/fd").iterdir()) == before
