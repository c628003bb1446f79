"""Freed memory that stays with the process."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource
import mlx.core as mx
from mlx_llava.training.heap import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        mx.eval(mx.zeros((48, 2**20 // 4)) + 1)  # 48 MiB: more than glibc keeps by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
before, kept = faults(), keep_freed_memory()
faults()
print(int(kept), before, faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone hands memory back like this")
def test_large_arrays_stop_causing_page_faults() -> None:
    said = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    kept, before, after = map(int, said.split())
    if not kept:
        pytest.skip("another C library, or MLX computes on a GPU")
    assert after < before / 10
