"""Memory that MLX frees on the CPU stays with the process.

MLX keeps no buffers of its own there, and the C library hands large ones back to the system: every large array then
begins with page faults, a tenth of a step.
"""

import ctypes

from mlx_llava.models import backend

# glibc, malloc.h
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Let the process keep what it frees, for its next arrays; whether the C library can, glibc and no other."""
    allocator = getattr(ctypes.CDLL(None), "mallopt", None)
    if allocator is None or not backend.on_cpu():
        return False
    return bool(allocator(M_MMAP_MAX, 0) and allocator(M_TRIM_THRESHOLD, 2**31 - 1))
