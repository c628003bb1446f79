"""A converted folder: its files, its config, and the model in it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlx_llava.checkpoint.folder import Checkpoint, load

__all__ = ["Checkpoint", "load"]


def __getattr__(name: str) -> Any:
    """Import on first use: `checkpoint.folder` needs MLX, the readers of files beside it do not."""
    if name in __all__:
        from mlx_llava.checkpoint import folder

        return getattr(folder, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
