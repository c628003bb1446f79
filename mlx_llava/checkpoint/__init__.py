"""Checkpoints on disk: readers of files and configs, the loader of converted folders, adapters.

From the bottom: `regular_file` (bytes), `safetensors` (headers), `reader` (rows of tensors); `strict_json` and
`config_json`; `coverage` and `quantization` (what a model needs); `folder` (load); `adapters`. `hub` downloads.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlx_llava.checkpoint.folder import Checkpoint, load

__all__ = ["Checkpoint", "load"]


def __getattr__(name: str) -> Any:
    """Import on first use: `checkpoint.folder` needs MLX, the readers of files do not."""
    if name in __all__:
        from mlx_llava.checkpoint import folder

        return getattr(folder, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
