"""The BLAS that is loaded before MLX, and the C extension under it."""

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from itertools import product
from pathlib import Path
from types import ModuleType

import mlx.core as mx
import numpy as np
import pytest

from mlx_llava.program import blas

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a fast BLAS is loaded on Linux only")
SOURCE = Path(blas.__file__).with_name("_cpu.c")
extension = pytest.mark.skipif(blas.extension() is None, reason="no C compiler or no wheel of NumPy")
PLAIN, TRANSPOSED = 111, 112  # of CBLAS


def blas_of(code: str, switch: str) -> list[str]:
    """What a program prints of its BLAS: whether one is mapped, its name and the reason for it."""
    code += "; from mlx_llava.program import blas; maps = open('/proc/self/maps').read()"
    code += "; print('mkl_rt' in maps or 'openblas' in maps); print(blas.name_of_blas()); print(blas.reason_for_blas())"
    environment = {**os.environ, blas.SWITCH: switch}
    return subprocess.check_output([sys.executable, "-c", code], env=environment, text=True).splitlines()


def test_a_fast_blas_is_loaded_without_mlx_and_numpy() -> None:
    code = "import sys, mlx_llava; assert not {'mlx', 'numpy'} & set(sys.modules)"
    for switch in ("", "1"):
        mapped, name, _ = blas_of(code, switch)
        assert mapped == str("reference" not in name)  # what it says is what is there


@pytest.mark.parametrize(
    ("code", "switch", "reason"),
    [
        ("import mlx_llava", "0", f"{blas.SWITCH} is 0"),
        ("import mlx_llava", "/no/such/library.so", f"{blas.SWITCH} is /no/such/library.so"),
        ("import mlx.core, mlx_llava", "", "MLX was imported before mlx_llava, too early for another one"),
    ],
)
def test_without_a_fast_blas_the_reason_is_known(code: str, switch: str, reason: str) -> None:
    if not blas.extension() and not switch:
        pytest.skip("the reason is that there is no extension")
    mapped, name, said = blas_of(code, switch)
    assert (mapped, name, said) == ("False", "reference BLAS of the MLX wheel", reason)


@extension
@pytest.mark.parametrize(("m", "n", "k"), [(1, 300, 200), (2, 300, 200), (3, 40, 50), (700, 5, 64), (300, 400, 500)])
@pytest.mark.parametrize(("ta", "tb"), [*product((PLAIN, TRANSPOSED), repeat=2)])
@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_products_equal_numpys(m: int, n: int, k: int, ta: int, tb: int, beta: float) -> None:
    random = np.random.default_rng(0)
    a, b = (random.random(shape, np.float32) - 0.5 for shape in ((m, k), (k, n)))
    c = np.full((m, n), np.nan if beta == 0 else 1, np.float32)  # with 0, memory that nobody wrote to
    expected = 2 * a.astype(np.float64) @ b + (beta if beta else 0)
    a, b = (np.ascontiguousarray(x if t == PLAIN else x.T) for x, t in ((a, ta), (b, tb)))
    pointers = [x.ctypes.data_as(ctypes.c_void_p) for x in (a, b, c)]
    scalars = ctypes.c_float(2), ctypes.c_float(beta)
    sgemm = ctypes.CDLL(str(blas.extension().__file__)).cblas_sgemm  # pyright: ignore[reportOptionalMemberAccess]
    sgemm(
        101, ta, tb, m, n, k, scalars[0], pointers[0], a.shape[1], pointers[1], b.shape[1], scalars[1], pointers[2], n
    )
    np.testing.assert_allclose(c, expected, rtol=0, atol=2e-5)  # float32, sums of 500 products


@pytest.fixture(scope="module", params=[4, 8, 16])
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The extension with vectors of at most so many numbers, as other processors run it."""
    compiler, openblas = shutil.which("cc"), blas.openblas_of_numpy()
    if not compiler or not openblas or not Path(sysconfig.get_path("include"), "Python.h").exists():
        pytest.skip("no C compiler, no headers of Python or no wheel of NumPy")
    library = tmp_path_factory.mktemp("compiled") / "_cpu.so"
    flags = ["-shared", "-fPIC", "-O3", "-w", f"-DMAX_LANES={request.param}", f"-I{sysconfig.get_path('include')}"]
    subprocess.run([compiler, *flags, str(SOURCE), "-o", str(library)], check=True)
    spec = importlib.util.spec_from_file_location("_cpu", library)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.use_openblas(str(openblas), False)
    return module


@pytest.mark.parametrize(("bits", "group"), [*product((4, 8), (32, 64, 128))])
def test_quantized_products_are_exact_on_every_processor(compiled: ModuleType, bits: int, group: int) -> None:
    for columns, count in product((128, 384, 1152), (1, 2, 7, 20)):
        weight, scales, biases = mx.quantize(mx.random.uniform(-0.03, 0.03, (65, columns)), group, bits)
        x, y = mx.random.normal((count, columns)), np.empty((count, 65), np.float32)
        compiled.quantized_product(x, weight, scales, biases, y, count, bits)
        exact = np.array(mx.dequantize(weight, scales, biases, group, bits), np.float64)
        np.testing.assert_allclose(y, np.array(x, np.float64) @ exact.T, rtol=0, atol=1e-5)  # float32


@extension
@pytest.mark.parametrize(
    ("rows", "columns", "bits"), [(64, 120, 4), (64, 128, 3), (63, 128, 4), (64, 128, 8), (0, 128, 4)]
)
def test_arrays_that_do_not_fit_together_are_refused(rows: int, columns: int, bits: int) -> None:
    weight, scales, biases = mx.quantize(mx.random.normal((64, 128)), 64, 4)
    x, y = np.zeros((1, columns), np.float32), np.empty((1, rows), np.float32)
    with pytest.raises(ValueError, match="do not fit together"):
        blas.extension().quantized_product(x, weight, scales, biases, y, 1, bits)  # pyright: ignore
    with pytest.raises(OSError, match="cannot open"):
        blas.extension().use_openblas("/no/such/library.so", False)  # pyright: ignore
