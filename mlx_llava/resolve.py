"""A model by its name: a converted folder, a repository that holds one, or the bundled model."""

from dataclasses import replace
from pathlib import Path

from mlx_llava.checkpoint import adapters
from mlx_llava.checkpoint.fingerprint import fingerprint
from mlx_llava.checkpoint.folder import Checkpoint, converted_config, load
from mlx_llava.checkpoint.hub import CONFIG, fetch
from mlx_llava.embedded import converted_folder, load_embedded


def open_model(name: str | Path | None = None, revision: str | None = None, adapter: Path | None = None) -> Checkpoint:
    """The model called `name`, or the bundled one, with the adapters of the folder `adapter`."""
    if adapter is not None:
        adapters.check_folder(adapter)  # before the model is downloaded and loaded
    if name is None:
        checkpoint = load_embedded()
    else:
        name = str(name)
        converted_config(fetch(name, revision, CONFIG), name)  # before gigabytes are downloaded
        checkpoint = load(fetch(name, revision))
    if adapter is not None:
        adapters.load(adapter, checkpoint.model, fingerprint(checkpoint.folder))
        checkpoint = replace(checkpoint, config=adapters.with_training_format(adapter, checkpoint.config))
    return checkpoint


def folder_of(name: str | None) -> Path:
    """The converted folder called `name`, or the bundled model's."""
    return converted_folder() if name is None else fetch(name)
