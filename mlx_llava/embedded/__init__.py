"""The small bundled LLaVA: answers questions about drawn shapes, without a download.

It is stored in llava-hf layout and converted on first use, like any other checkpoint. Imports MLX only to convert or
load it.
"""

import atexit
import hashlib
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from mlx_llava import __version__
from mlx_llava.checkpoint.hub import EMBEDDED
from mlx_llava.errors import CheckpointError, ConversionError, ModelError
from mlx_llava.program.paths import cache_folder

if TYPE_CHECKING:
    from mlx_llava.checkpoint.folder import Checkpoint

CHECKPOINT = Path(__file__).parent / "tiny-llava-hf"
IMAGE = CHECKPOINT / "examples" / "two_shapes_wide.png"
QUESTION = "What color is the square?"


def converted_path() -> Path:
    """The folder of the converted model; there is one for each version of weights and program."""
    with (CHECKPOINT / "model.safetensors").open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:12]
    return cache_folder() / f"{EMBEDDED}-{__version__}-{digest}"


def converted_folder() -> Path:
    """The converted model, converted on first use; without a cache that can be written, once in each process."""
    folder = converted_path()
    if not folder.is_dir() and not _is_writable(folder.parent):
        folder = _temporary_folder() / folder.name
    if not folder.is_dir():
        from mlx_llava.convert.job import prepare, write
        from mlx_llava.convert.options import ConvertOptions

        try:
            write(prepare(ConvertOptions(hf_path=os.fspath(CHECKPOINT), mlx_path=folder)))
        except ConversionError:
            if not folder.is_dir():  # otherwise another process was faster
                raise
    return folder


def load_embedded() -> "Checkpoint":
    """Load the model; a damaged copy in the cache is converted again."""
    from mlx_llava.checkpoint.folder import load

    folder = converted_folder()
    try:
        return load(folder)
    except (CheckpointError, ModelError):
        shutil.rmtree(folder)
        return load(converted_folder())


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


@cache
def _temporary_folder() -> Path:
    """A folder that is removed when the process ends."""
    folder = tempfile.mkdtemp(prefix="mlx-llava-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
