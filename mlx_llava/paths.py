"""Where this program keeps what it makes; models from the hub stay in the hub's own cache."""

import os
from pathlib import Path

import platformdirs

HOME = "MLX_LLAVA_HOME"  # one folder for everything, instead of the system's places


def cache_folder() -> Path:
    """The folder for what can be made again."""
    if home := os.environ.get(HOME):
        return Path(home).expanduser() / "cache"
    return platformdirs.user_cache_path("mlx-llava", appauthor=False)
