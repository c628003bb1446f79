"""Folders of this program. Models from the hub stay in the hub's own cache."""

import os
from pathlib import Path

HOME = "MLX_LLAVA_HOME"  # one folder for everything, instead of the platform's standard folders


def expanded(name: str) -> Path:
    """A typed path with `~` and `~user` expanded; an unknown user's name is left as it is."""
    return Path(os.path.expanduser(name))  # noqa: PTH111 - Path.expanduser raises for an unknown user


def cache_folder() -> Path:
    """The folder for data that can be recreated."""
    if home := os.environ.get(HOME):
        return expanded(home) / "cache"
    import platformdirs  # late: few commands need it

    return platformdirs.user_cache_path("mlx-llava", appauthor=False)
