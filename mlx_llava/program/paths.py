"""Folders of this program. Models from the hub stay in the hub's own cache."""

import os
from pathlib import Path
from typing import Literal

HOME = "MLX_LLAVA_HOME"  # one folder for everything, instead of the platform's standard folders


def expand_home(name: str) -> Path:
    """A typed path with `~` and `~user` expanded; an unknown user's name is left as it is."""
    return Path(os.path.expanduser(name))  # noqa: PTH111 - Path.expanduser raises for an unknown user


def cache_folder() -> Path:
    """The folder for files that can be recreated."""
    return _folder("cache")


def data_folder() -> Path:
    """The folder for files that cannot be recreated: chats and models."""
    return _folder("data")


def config_folder() -> Path:
    """The folder for settings."""
    return _folder("config")


def _folder(kind: Literal["cache", "data", "config"]) -> Path:
    if home := os.environ.get(HOME):
        return expand_home(home) / kind
    from platformdirs import PlatformDirs  # late: few commands need it

    folders = PlatformDirs("mlx-llava", appauthor=False)
    return {"cache": folders.user_cache_path, "data": folders.user_data_path, "config": folders.user_config_path}[kind]
