"""The reader of .bin files against torch.load: every dtype, layout and container, byte for byte."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from record import build
from spine import Case

from mlx_llava.checkpoint.reader import Reader
from mlx_llava.convert.torch_bin.archive import check_sums, read_file, rows

DTYPES = "float32 float16 bfloat16 float64 int64 int32 int16 int8 uint8 bool".split()
LEGACY = {"zip": False, "stream": True}


def layouts(x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Views that share one storage."""
    return {
        "whole": x,
        "transposed": x.T,
        "sliced": x[3:20:2, 1:7],
        "some rows": x[5:9],
        "expanded": x[:, :1].expand(40, 9),
        "permuted": x.view(4, 10, 30).permute(2, 0, 1),
        "one number": x[3, 4],
        "empty": x[:0],
        "again": x,
    }


def assert_same(path: Path, theirs: Mapping[str, torch.Tensor]) -> None:
    found = read_file(path)
    check_sums(found.values())
    assert found.keys() == theirs.keys()
    with Reader() as reader:
        for name, tensor in theirs.items():
            values = tensor.detach()
            expected = (values.view(torch.uint16) if values.dtype == torch.bfloat16 else values).numpy()
            ours = rows(reader, found[name], 0, found[name].num_rows)
            np.testing.assert_array_equal(ours, expected, strict=True)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("container", LEGACY)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_and_layout_is_read_as_torch_reads_it(
    dtype: str, container: str, protocol: int, tmp_path: Path
) -> None:
    x = (5 * torch.randn(40, 30)).to(getattr(torch, dtype))
    held = layouts(x) | ({"parameter": torch.nn.Parameter(x)} if x.is_floating_point() else {})
    path = tmp_path / "x.bin"
    torch.save(held, path, pickle_protocol=protocol, _use_new_zipfile_serialization=not LEGACY[container])
    assert_same(path, held)


@pytest.mark.parametrize("container", LEGACY)
def test_the_state_of_a_whole_model_is_read(container: str, tmp_path: Path) -> None:
    state = build(Case()).state_dict()
    path = tmp_path / "pytorch_model.bin"
    torch.save(state, path, _use_new_zipfile_serialization=not LEGACY[container])
    assert_same(path, torch.load(path, weights_only=True))
