"""A fast BLAS for MLX's CPU backend on Linux, loaded before MLX.

MLX's Linux wheel links a reference BLAS. A library that exports the same symbols and is loaded globally before it
takes its place, and is 30 to 60 times as fast (`benchmarks/prefill.py`). macOS has Accelerate.
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

try:
    from mlx_llava.program import _cpu
except ImportError:  # not Linux, or no C compiler when this package was installed
    _cpu = None

SWITCH = "MLX_LLAVA_FAST_BLAS"  # 0 keeps MLX's own BLAS; a path loads that library
BEST = ("", "1")  # the same as unset
INT8 = "MLX_LLAVA_INT8"  # 1 rounds activations to 8 bits in products with quantized weights

_loaded: list[str] = []
_rounds: list[bool] = []
_errors: list[str] = []  # of the extension


def load_fast_blas() -> None:
    """Load the first BLAS of `_libraries` that is installed, unless off Linux, switched off or after MLX."""
    choice = os.environ.get(SWITCH, "")
    if sys.platform != "linux" or choice == "0" or "mlx.core" in sys.modules or _loaded:
        return
    for library in _libraries() if choice in BEST else [choice]:
        try:
            ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
        except OSError:
            continue
        _loaded.append(library)
        return


def _libraries() -> Iterator[str]:
    """The extension with NumPy's OpenBLAS, then MKL, then the system's OpenBLAS."""
    openblas = openblas_of_numpy()
    if _cpu is not None and openblas is not None:
        try:
            _rounds[:] = [_cpu.use_openblas(str(openblas), _num_threads(), os.environ.get(INT8) == "1")]
        except OSError as error:
            _errors.append(str(error))
        else:
            yield _cpu.__file__
    yield from map(str, sorted(Path(sys.prefix, "lib").glob("libmkl_rt.so*"), reverse=True))  # the extra `fast-cpu`
    yield "libmkl_rt.so.2"
    yield "libopenblas.so.0"  # Debian and Ubuntu: apt install libopenblas0


def _num_threads() -> int:
    """One for each core that this process may use, unless a variable of OpenBLAS says otherwise."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        if (value := os.environ.get(name, "")).isdecimal() and int(value):
            return int(value)
    return len(os.sched_getaffinity(0))


def openblas_of_numpy() -> Path | None:
    """The OpenBLAS in NumPy's wheel, found without importing NumPy; other builds of NumPy have none."""
    spec = find_spec("numpy")
    if spec is None or spec.origin is None:
        return None
    return next(Path(spec.origin).parent.with_name("numpy.libs").glob("libscipy_openblas64_*.so"), None)


def extension() -> ModuleType | None:
    """The C extension, if it is in use."""
    return _cpu if _cpu is not None and _cpu.__file__ in _loaded else None


def rounds_activations() -> bool:
    """Whether quantized products round activations to 8 bits, which takes AVX-512 VNNI."""
    return extension() is not None and _rounds == [True]


def name_of_blas() -> str:
    """The BLAS that MLX's CPU backend uses in this process."""
    if sys.platform == "darwin":
        return "Accelerate"
    if extension() is not None:
        return "NumPy's OpenBLAS"
    return _loaded[0] if _loaded else os.environ.get("LD_PRELOAD") or "reference BLAS of the MLX wheel"


def reason_for_blas() -> str:
    """Why this BLAS is in use."""
    if sys.platform != "linux":
        return "part of the system"
    if extension() is not None:
        activations = "int8" if rounds_activations() else "float32"
        return f"by mlx-llava's C extension, which also multiplies quantized weights ({activations} activations)"
    if (choice := os.environ.get(SWITCH, "")) not in BEST:
        return f"{SWITCH} is {choice}"
    if _cpu is None:
        return "mlx-llava's C extension is faster: install gcc, then mlx-llava with pip's --force-reinstall --no-cache"
    if openblas_of_numpy() is None:
        return "mlx-llava's C extension is faster, but needs the OpenBLAS of a NumPy wheel; this NumPy has none"
    return _errors[0] if _errors else "MLX was imported before mlx_llava; import mlx_llava first"
