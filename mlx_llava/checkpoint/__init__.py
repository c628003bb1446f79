"""Checkpoints on disk: readers of files and configs, the loader of converted folders, adapters.

From the bottom: `regular_file` (bytes), `safetensors` (headers), `reader` (rows of tensors); `strict_json` and
`config_json`; `coverage` and `quantization` (what a model needs); `folder` (load); `adapters`. `hub` downloads.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    """Import `Checkpoint` and `load` on first use: `folder` needs MLX, the readers of files do not."""
    if name in ("Checkpoint", "load"):
        from mlx_llava.checkpoint import folder

        return getattr(folder, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
