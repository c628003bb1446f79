"""The BLAS that is loaded before MLX, and the C extension under it."""

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from types import ModuleType

import mlx.core as mx
import numpy as np
import pytest
from numpy.typing import NDArray

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
        ("import mlx.core, mlx_llava", "", "MLX was imported before mlx_llava; import mlx_llava first"),
    ],
)
def test_without_a_fast_blas_the_reason_is_known(code: str, switch: str, reason: str) -> None:
    if not blas.extension() and not switch:
        pytest.skip("the reason is that there is no extension")
    mapped, name, said = blas_of(code, switch)
    assert (mapped, name, said) == ("False", "reference BLAS of the MLX wheel", reason)


@extension
@pytest.mark.parametrize(
    ("m", "n", "k"),
    [(1, 2000, 900), (2, 1100, 600), (2, 3, 0), (3, 40, 50), (7, 1300, 300), (1500, 7, 600), (300, 400, 500)],
)
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
    np.testing.assert_allclose(c, expected, rtol=0, atol=3e-5)  # float32, sums of up to 900 products


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
    module.use_openblas(str(openblas), 3, False)
    return module


@pytest.mark.parametrize(("bits", "group"), [*product((4, 8), (32, 64, 128))])
def test_quantized_products_are_exact_on_every_processor(compiled: ModuleType, bits: int, group: int) -> None:
    for columns, count in product((128, 384, 1152), (1, 2, 7, 20)):
        weight, scales, biases = mx.quantize(mx.random.uniform(-0.03, 0.03, (65, columns)), group, bits)
        x, y = mx.random.normal((count, columns)), np.empty((count, 65), np.float32)
        compiled.quantized_product(x, weight, scales, biases, y, count, bits)
        exact = np.array(mx.dequantize(weight, scales, biases, group, bits), np.float64)
        np.testing.assert_allclose(y, np.array(x, np.float64) @ exact.T, rtol=0, atol=1e-5)  # float32


@pytest.mark.parametrize(("bits", "group"), [*product((4, 8), (32, 64, 128))])
def test_activations_of_8_bits_cost_less_than_a_hundredth(compiled: ModuleType, bits: int, group: int) -> None:
    openblas = str(blas.openblas_of_numpy())
    if not compiled.use_openblas(openblas, 3, True):
        pytest.skip("only AVX-512 VNNI rounds activations")
    for columns, count in product((256, 1152), (1, 3)):
        weight, scales, biases = mx.quantize(mx.random.normal((300, columns)), group, bits)
        x, y = np.array(mx.random.normal((count, columns))), np.empty((count, 300), np.float32)
        x[0, :group] = 0  # no step to divide by
        compiled.quantized_product(x, weight, scales, biases, y, count, bits)
        exact = x @ np.array(mx.dequantize(weight, scales, biases, group, bits)).T
        assert np.linalg.norm(y - exact) < 0.01 * np.linalg.norm(exact)
        assert not np.allclose(y, exact, rtol=0, atol=1e-4)  # they were rounded
        for number in (np.nan, np.inf):
            x[0, 1] = number
            compiled.quantized_product(x, weight, scales, biases, y, count, bits)
            assert not np.isfinite(y[0]).any()
    compiled.use_openblas(openblas, 3, False)


def test_threads_share_the_rows_of_a_large_weight(compiled: ModuleType) -> None:
    weight, scales, biases = mx.quantize(mx.random.uniform(-0.03, 0.03, (2051, 1024)), 64, 4)
    exact = np.array(mx.dequantize(weight, scales, biases, 64, 4), np.float64)
    for count in (1, 5, 40):
        x, y = mx.random.normal((count, 1024)), np.full((count, 2051), np.nan, np.float32)
        compiled.quantized_product(x, weight, scales, biases, y, count, 4)
        np.testing.assert_allclose(y, np.array(x, np.float64) @ exact.T, rtol=0, atol=1e-5)  # float32


def test_callers_on_several_threads_get_their_own_products(compiled: ModuleType) -> None:
    weight, scales, biases = mx.quantize(mx.random.uniform(-0.03, 0.03, (2051, 1024)), 64, 4)
    inputs = [np.array(mx.random.normal((1, 1024))) for _ in range(40)]

    def multiply(x: NDArray[np.float32]) -> NDArray[np.float32]:
        y = np.empty((1, 2051), np.float32)
        compiled.quantized_product(x, weight, scales, biases, y, 1, 4)
        return y

    alone = [multiply(x) for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        assert all(map(np.array_equal, alone, pool.map(multiply, inputs)))


@extension
@pytest.mark.parametrize("change", ["columns", "bits", "rows", "none", "count", "groups", "transposed", "broadcast"])
def test_arrays_that_do_not_fit_together_are_refused(change: str) -> None:
    weight, scales, biases = mx.quantize(mx.random.normal((64, 128)), 64, 4)
    x, y = np.zeros((1, 120 if change == "columns" else 128), np.float32), np.empty((1, 64), np.float32)
    y = y[:, : {"rows": 63, "none": 0}.get(change, 64)].copy()
    if change == "groups":
        scales, biases = scales[:1, :1], biases[:1, :1]
    if change == "transposed":
        weight = mx.contiguous(weight.T).T
    if change == "broadcast":
        scales = mx.broadcast_to(scales[:1, :1], scales.shape)
    count, bits = 100 if change == "count" else 1, 3 if change == "bits" else 4
    with pytest.raises(ValueError, match="do not fit together"):
        blas.extension().quantized_product(x, weight, scales, biases, y, count, bits)  # pyright: ignore


@pytest.mark.parametrize(
    ("library", "problem"), [("/no/such/library.so", "cannot open"), ("libm.so.6", "not the OpenBLAS")]
)
def test_another_library_is_refused_and_changes_nothing(compiled: ModuleType, library: str, problem: str) -> None:
    with pytest.raises(OSError, match=problem):
        compiled.use_openblas(library, 1, False)
    test_threads_share_the_rows_of_a_large_weight(compiled)


def test_without_the_extension_the_reason_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blas, "_loaded", [])
    monkeypatch.delenv(blas.SWITCH, raising=False)
    monkeypatch.setattr(blas, "openblas_of_numpy", lambda: None)
    assert not any("_cpu" in library for library in blas._libraries())
    if blas._cpu is not None:
        assert "needs the OpenBLAS of a NumPy wheel" in blas.reason_for_blas()
    monkeypatch.setattr(blas, "_cpu", None)
    assert "install gcc" in blas.reason_for_blas()
