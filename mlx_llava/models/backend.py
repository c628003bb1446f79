"""The device that MLX computes on, and what makes the CPU backend fast.

Metal and CUDA compute in the checkpoint's own dtype. On the CPU half precision is slow: there everything computes in
float32, and quantized layers are those of `cpu_layers`.
"""

import os
import time
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map, tree_unflatten

from mlx_llava.models import cpu_layers


def on_cpu() -> bool:
    """Whether MLX computes on the CPU in this process."""
    return mx.default_device() == mx.Device(mx.cpu)


def memory_limit() -> int:
    """Bytes available to a model: free memory on the CPU, the recommended working set on a GPU."""
    if not on_cpu():
        info = mx.device_info()
        return int(info.get("max_recommended_working_set_size", info["memory_size"]))
    pages = os.sysconf("SC_AVPHYS_PAGES") if "SC_AVPHYS_PAGES" in os.sysconf_names else os.sysconf("SC_PHYS_PAGES")
    free = pages * os.sysconf("SC_PAGE_SIZE")
    try:  # Linux counts file caches as used, but can drop them
        with Path("/proc/meminfo").open(encoding="ascii") as lines:
            available = next(line for line in lines if line.startswith("MemAvailable:"))
        return max(free, int(available.split()[1]) * 1024)
    except (OSError, StopIteration):
        return free


def gflops() -> float:
    """Billions of operations per second in a float32 product of 512 x 1024 x 1024, the fastest of 3."""
    x, weight = mx.ones((512, 1024)), mx.ones((1024, 1024))
    mx.eval(x, weight)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        mx.eval(x @ weight.T)
        seconds.append(time.perf_counter() - start)
    return 2 * 512 * 1024 * 1024 / min(seconds) / 1e9


def to_compute_dtype(x: mx.array) -> mx.array:
    """The weight in the dtype that the device computes in: float32 on the CPU, its own elsewhere."""
    return x.astype(mx.float32) if on_cpu() and mx.issubdtype(x.dtype, mx.floating) else x


def adapt_to_device(model: nn.Module) -> None:
    """Adapt a loaded model to the device: on the CPU, give it `cpu_layers` and switch compilation off.

    That holds for the whole process: g++ would take a second for each fused kernel.
    """
    if on_cpu():
        mx.disable_compile()
        model.update_modules(tree_map(cpu_layers.for_cpu, model.leaf_modules(), is_leaf=nn.Module.is_module))


def dequantize_slow_layers(model: nn.Module) -> None:
    """Dequantize layers that the CPU cannot multiply by quickly, if float32 takes at most half of the free memory.

    An embedding is multiplied by if the model has no other head.
    """
    if not on_cpu():
        return
    layers: list[tuple[str, nn.Module]] = tree_flatten(model.leaf_modules(), is_leaf=nn.Module.is_module)  # pyright: ignore
    kind = nn.QuantizedLinear if any(path.endswith("lm_head") for path, _ in layers) else nn.Module
    slow = [(path, layer) for path, layer in layers if isinstance(layer, kind) and cpu_layers.is_slow(layer)]
    if 2 * sum(cpu_layers.float32_bytes(layer) for _, layer in slow) > memory_limit():
        return
    for path, layer in slow:
        model.update_modules(tree_unflatten([(path, cpu_layers.dequantized(layer))]))
