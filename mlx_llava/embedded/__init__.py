"""The small bundled LLaVA: answers questions about drawn shapes, without a download.

It is stored in llava-hf layout and converted on first use, like any other checkpoint.
"""

import hashlib
import os
import shutil
from pathlib import Path

from mlx_llava import __version__
from mlx_llava.checkpoint.folder import Checkpoint, load
from mlx_llava.checkpoint.hub import EMBEDDED
from mlx_llava.convert.job import prepare, write
from mlx_llava.convert.options import ConvertOptions
from mlx_llava.errors import CheckpointError, ConversionError, ModelError
from mlx_llava.program.paths import cache_folder

CHECKPOINT = Path(__file__).parent / "tiny-llava-hf"
IMAGE = CHECKPOINT / "examples" / "two_shapes_wide.png"


def converted_folder() -> Path:
    """The converted model, converted on first use; one folder for each version of weights and program."""
    digest = hashlib.sha256((CHECKPOINT / "model.safetensors").read_bytes()).hexdigest()[:12]
    folder = cache_folder() / f"{EMBEDDED}-{__version__}-{digest}"
    if not folder.is_dir():
        try:
            write(prepare(ConvertOptions(hf_path=os.fspath(CHECKPOINT), mlx_path=folder)))
        except ConversionError:
            if not folder.is_dir():  # otherwise another process was faster
                raise
    return folder


def load_embedded() -> Checkpoint:
    """Load the model; a damaged copy in the cache is converted again."""
    folder = converted_folder()
    try:
        return load(folder)
    except (CheckpointError, ModelError):
        shutil.rmtree(folder)
        return load(converted_folder())
