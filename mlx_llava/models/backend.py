"""Facts about the device MLX computes on, and what the CPU backend needs to be fast.

Metal and CUDA compute in the checkpoint's own dtype. On the CPU, half precision is slow and quantized
matrix products are a plain loop: there everything computes in float32, and above a few rows a quantized
layer unpacks its weight and multiplies (`benchmarks/prefill.py`).
"""

import os
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map

# Up to where packed is as fast: at 2048 x 2048 and 4 bits a row takes 3.7 ms packed, unpacking 7 ms for any few rows.
FEW_ROWS = 2


def on_cpu() -> bool:
    """Whether MLX computes on the CPU in this process."""
    return mx.default_device() == mx.Device(mx.cpu)


def memory_limit() -> int:
    """Bytes that a model may take here: what is free on the CPU, the recommended working set on a GPU."""
    if not on_cpu():
        info = mx.device_info()
        return int(info.get("max_recommended_working_set_size", info["memory_size"]))
    pages = os.sysconf("SC_AVPHYS_PAGES") if "SC_AVPHYS_PAGES" in os.sysconf_names else os.sysconf("SC_PHYS_PAGES")
    free = pages * os.sysconf("SC_PAGE_SIZE")
    try:  # Linux counts file caches as used; they give way
        with Path("/proc/meminfo").open(encoding="ascii") as lines:
            available = next(line for line in lines if line.startswith("MemAvailable:"))
        return max(free, int(available.split()[1]) * 1024)
    except (OSError, StopIteration):
        return free


class CPUQuantizedLinear(nn.QuantizedLinear):
    """A quantized linear layer that unpacks its weight when there are more than a few rows."""

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
        """x Wᵀ, with a gradient that unpacks W again, and not before it is there: kept, all W would lie unpacked."""

        @mx.custom_function
        def product(x: mx.array) -> mx.array:
            return x @ self._unpacked(self.weight, x.dtype).T

        @product.vjp
        def _(x: mx.array, gradient: mx.array, y: mx.array) -> mx.array:
            (packed,) = mx.depends([self.weight], [gradient])
            return gradient @ self._unpacked(packed, x.dtype)

        return product(x)  # pyright: ignore[reportReturnType]

    def _unpacked(self, packed: mx.array, dtype: mx.Dtype) -> mx.array:
        packing = (self.group_size, self.bits, self.mode)
        return mx.dequantize(packed, self.scales, self.get("biases"), *packing, dtype=dtype)


def to_compute_dtype(x: mx.array) -> mx.array:
    """A weight in the dtype that the device computes in: on the CPU float32, elsewhere its own."""
    return x.astype(mx.float32) if on_cpu() and mx.issubdtype(x.dtype, mx.floating) else x


def adapt_to_device(model: nn.Module) -> None:
    """Make a loaded model fit the device: on the CPU, quantized layers that unpack, and no compilation.

    Compilation is switched off for the whole process: each fused kernel would first cost a second of g++.
    """
    if not on_cpu():
        return
    mx.disable_compile()

    def unpack(module: nn.Module) -> nn.Module:
        return CPUQuantizedLinear(module) if isinstance(module, nn.QuantizedLinear) else module

    model.update_modules(tree_map(unpack, model.leaf_modules(), is_leaf=nn.Module.is_module))
