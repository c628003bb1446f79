"""The small LLaVA that is part of this package: answers about drawn shapes, with no download.

Kept as a llava-hf folder, so that the first use goes through the converter like any other checkpoint.
"""

import hashlib
import os
import shutil
from pathlib import Path

from mlx_llava import __version__
from mlx_llava.checkpoint.folder import Checkpoint, load
from mlx_llava.convert.job import prepare, write
from mlx_llava.convert.options import ConvertOptions
from mlx_llava.errors import CheckpointError, ConversionError, ModelError
from mlx_llava.program.paths import cache_folder

CHECKPOINT = Path(__file__).parent / "tiny-llava-hf"
IMAGE = CHECKPOINT / "examples" / "two_shapes_wide.png"
QUESTION = "What color is the square?"


def converted() -> Path:
    """The folder of the converted model, made on first use; one for each version of weights and program."""
    digest = hashlib.sha256((CHECKPOINT / "model.safetensors").read_bytes()).hexdigest()[:12]
    folder = cache_folder() / f"embedded-{__version__}-{digest}"
    if not folder.is_dir():
        _convert(folder)
    return folder


def load_embedded() -> Checkpoint:
    """The model, loaded; a damaged copy in the cache is made anew."""
    folder = converted()
    try:
        return load(folder)
    except (CheckpointError, ModelError):
        shutil.rmtree(folder)
        return load(converted())


def _convert(folder: Path) -> None:
    options = ConvertOptions(hf_path=os.fspath(CHECKPOINT), mlx_path=folder)
    try:
        write(prepare(options))
    except ConversionError:
        if not folder.is_dir():  # or else another process was faster
            raise
