from typing_extensions import Buffer  # of collections.abc from Python 3.12 on

def use_openblas(path: str, threads: int, int8: bool) -> bool:
    """Use the OpenBLAS of a NumPy wheel, on one thread in itself and on `threads` here. Call this first.

    Returns whether activations are rounded to 8 bits, which `int8` asks for and not every processor can do. Raises
    OSError if the library cannot be opened or is another one.
    """

def quantized_product(
    x: Buffer, weight: Buffer, scales: Buffer, biases: Buffer, y: Buffer, count: int, bits: int
) -> None:
    """Write x Wᵀ into `y [count, rows]`, for `x [count, columns]` and W as `mx.quantize` returns it, float32.

    Raises ValueError if the shapes do not fit together, if an array is not contiguous, or for other than 4 or 8 bits.
    """
