"""Where this program keeps what it makes; models from the hub stay in the hub's own cache."""

import os
from pathlib import Path

HOME = "MLX_LLAVA_HOME"  # one folder for everything, instead of the system's places


def expanded(name: str) -> Path:
    """The path of a name that somebody typed: `~` and `~name` stand for the homes that there are."""
    return Path(os.path.expanduser(name))  # noqa: PTH111 - Path.expanduser raises for an unknown user


def cache_folder() -> Path:
    """The folder for what can be made again."""
    if home := os.environ.get(HOME):
        return expanded(home) / "cache"
    import platformdirs  # late: not every program needs it

    return platformdirs.user_cache_path("mlx-llava", appauthor=False)
