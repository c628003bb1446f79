"""The device that MLX computes on, and what makes the CPU backend fast.

Metal and CUDA compute in the checkpoint's own dtype. On the CPU, half precision is slow and quantized
matrix products are a plain loop: there everything computes in float32, and for more than a few rows a quantized
layer dequantizes its weight first (`benchmarks/prefill.py`).
"""

import os
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map

# A 2048 x 2048 product at 4 bits takes 3.7 ms per row as it is, and 7 ms for any few rows with a dequantized weight.
FEW_ROWS = 2


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


class CPUQuantizedLinear(nn.QuantizedLinear):
    """A quantized linear layer that dequantizes its weight for more than a few rows."""

    def __init__(self, base: nn.QuantizedLinear) -> None:
        nn.Module.__init__(self)
        self.group_size, self.bits, self.mode = base.group_size, base.bits, base.mode
        self.weight, self.scales, self.biases = base.weight, base.scales, base.get("biases")
        if "bias" in base:
            self.bias = base.bias
        self.freeze()

    def __call__(self, x: mx.array) -> mx.array:
        if x.size <= FEW_ROWS * x.shape[-1]:
            return super().__call__(x)
        y = self._product(x)
        return y + self.bias if "bias" in self else y

    def _product(self, x: mx.array) -> mx.array:
        """x Wᵀ; the gradient dequantizes W again, once it is needed, or every layer's W would stay in memory."""

        @mx.custom_function
        def product(x: mx.array) -> mx.array:
            return x @ self._dequantized(self.weight, x.dtype).T

        @product.vjp
        def _(x: mx.array, gradient: mx.array, y: mx.array) -> mx.array:
            (weight,) = mx.depends([self.weight], [gradient])
            return gradient @ self._dequantized(weight, x.dtype)

        return product(x)  # pyright: ignore[reportReturnType]

    def _dequantized(self, weight: mx.array, dtype: mx.Dtype) -> mx.array:
        quantization = (self.group_size, self.bits, self.mode)
        return mx.dequantize(weight, self.scales, self.get("biases"), *quantization, dtype=dtype)


def to_compute_dtype(x: mx.array) -> mx.array:
    """The weight in the dtype that the device computes in: float32 on the CPU, its own elsewhere."""
    return x.astype(mx.float32) if on_cpu() and mx.issubdtype(x.dtype, mx.floating) else x


def adapt_to_device(model: nn.Module) -> None:
    """Adapt a loaded model to the device: on the CPU, use `CPUQuantizedLinear` and switch compilation off.

    That holds for the whole process: g++ would take a second for each fused kernel.
    """
    if not on_cpu():
        return
    mx.disable_compile()

    def adapt(module: nn.Module) -> nn.Module:
        return CPUQuantizedLinear(module) if isinstance(module, nn.QuantizedLinear) else module

    model.update_modules(tree_map(adapt, model.leaf_modules(), is_leaf=nn.Module.is_module))
