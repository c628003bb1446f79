"""A fast BLAS for MLX's CPU backend on Linux, loaded before MLX.

MLX's Linux wheel links a reference BLAS. A library that exports the same symbols and is loaded globally before it
takes its place, and is 50 times as fast (`benchmarks/prefill.py`). macOS has Accelerate.
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
    """Load the first installed BLAS of CANDIDATES. Does nothing off Linux, once MLX is loaded, or if switched off."""
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
