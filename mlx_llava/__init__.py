"""LLaVA on a Mac: convert a checkpoint, ask it about images.

`load`, `Chat` and `Image` are imported on first use. Every other name has one address, for example
`from mlx_llava.inference.sampling import Sampling`.
"""

from importlib import import_module

from mlx_llava.program.blas import load_fast_blas
from mlx_llava.program.signals import end_at_once, is_program

__version__ = "0.1.0"

_FRONT_DOOR = {
    "load": ("mlx_llava.resolve", "open_model"),
    "Chat": ("mlx_llava.inference.chat", "Chat"),
    "Image": ("mlx_llava.images.image", "Image"),
}

if is_program():
    end_at_once()
load_fast_blas()  # has an effect only before the first import of MLX


def __getattr__(name: str) -> object:
    if name not in _FRONT_DOOR:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _FRONT_DOOR[name]
    return getattr(import_module(module), attribute)
