"""A model by its name: a converted folder, a pulled model, a repository that holds one, or the bundled model.

In this order; every use is noted for `mlx-llava models`.
"""

from dataclasses import replace
from pathlib import Path

from mlx_llava.catalog.pulled import place
from mlx_llava.catalog.uses import note_use
from mlx_llava.checkpoint import adapters
from mlx_llava.checkpoint.fingerprint import fingerprint
from mlx_llava.checkpoint.folder import Checkpoint, converted_config, load
from mlx_llava.checkpoint.hub import CONFIG, EMBEDDED, fetch
from mlx_llava.embedded import converted_folder, load_embedded
from mlx_llava.models.backend import dequantize_slow_layers


def open_model(
    name: str | Path | None = None,
    revision: str | None = None,
    adapter: Path | None = None,
    *,
    training: bool = False,
) -> Checkpoint:
    """The model called `name`, or the bundled one, with the adapters of the folder `adapter`.

    Args:
        training: keep every layer as it is in the folder; otherwise slow layers may be dequantized.
    """
    if adapter is not None:
        adapters.check_folder(adapter)  # before the model is downloaded and loaded
    if _is_embedded(name):
        checkpoint = load_embedded()
    else:
        where = str(place(str(name)))
        converted_config(fetch(where, revision, CONFIG), str(name))  # before gigabytes are downloaded
        checkpoint = load(fetch(where, revision))
    note_use(checkpoint.folder)
    if not training:
        dequantize_slow_layers(checkpoint.model)
    if adapter is not None:
        adapters.load(adapter, checkpoint.model, fingerprint(checkpoint.folder))
        checkpoint = replace(checkpoint, config=adapters.with_training_format(adapter, checkpoint.config))
    return checkpoint


def folder_of(name: str | None) -> Path:
    """The converted folder called `name`, or the bundled model's."""
    folder = converted_folder() if _is_embedded(name) else fetch(str(place(name)))
    note_use(folder)
    return folder


def _is_embedded(name: str | Path | None) -> bool:
    return name is None or (name == EMBEDDED and not Path(name).exists())
