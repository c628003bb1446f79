"""A fast BLAS for MLX's CPU backend on Linux, loaded before MLX.

The Linux wheel of MLX links a reference BLAS. A library with the same symbols that is loaded globally
first takes its place: measured 50 times the speed in `benchmarks/prefill.py`. macOS has Accelerate.
"""

import ctypes
import os
import sys
from pathlib import Path

SWITCH = "MLX_LLAVA_FAST_BLAS"  # set to 0 to keep MLX's own BLAS

CANDIDATES = (
    *sorted(Path(sys.prefix, "lib").glob("libmkl_rt.so*"), reverse=True),  # the extra `fast-cpu`
    "libmkl_rt.so.2",
    "libopenblas.so.0",  # Debian and Ubuntu: apt install libopenblas0
)

_loaded: list[str] = []


def load_fast_blas() -> None:
    """Load the first BLAS that is installed; silent when there is none, when switched off, and off Linux."""
    if sys.platform != "linux" or os.environ.get(SWITCH) == "0" or "mlx.core" in sys.modules or _loaded:
        return
    for candidate in CANDIDATES:
        try:
            ctypes.CDLL(str(candidate), mode=ctypes.RTLD_GLOBAL)
        except OSError:
            continue
        _loaded.append(str(candidate))
        return


def name_of_blas() -> str:
    """The BLAS that MLX's CPU backend uses in this process."""
    if sys.platform == "darwin":
        return "Accelerate"
    return _loaded[0] if _loaded else os.environ.get("LD_PRELOAD") or "reference BLAS of the MLX wheel (slow)"
