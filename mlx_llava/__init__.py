"""LLaVA on a Mac: convert a checkpoint, ask it about pictures.

Each name has one address, for example `from mlx_llava.inference.chat import Chat`.
"""

from mlx_llava.program.blas import load_fast_blas

__version__ = "0.1.0"

load_fast_blas()  # has an effect only before the first import of MLX
