"""A hash that identifies a converted model, so that adapters are loaded only onto the model they were trained on."""

import hashlib
import json
from pathlib import Path

from mlx_llava.checkpoint.reader import Reader, read_index
from mlx_llava.checkpoint.strict_json import read_json


def fingerprint(folder: Path) -> str:
    """The hash of a folder's tensors, tokenizer and config.

    Includes name, dtype, shape and first row of each tensor (all values of a vector), however they are spread over
    files. Of the config everything counts except its source, and the template and fit, which training may change.
    """
    digest = hashlib.sha256((folder / "tokenizer.json").read_bytes())
    config = read_json(folder / "config.json")
    ours = config.pop("mlx_llava")
    image = {name: value for name, value in ours["picture"].items() if name != "fit"}
    digest.update(json.dumps([config, image, ours.get("restart_after_image")], sort_keys=True).encode())
    with Reader() as reader:
        for name, tensor in sorted(read_index(folder).items()):
            digest.update(json.dumps([name, tensor.dtype, tensor.shape]).encode())
            digest.update(reader.rows(tensor, 0, 1 if len(tensor.shape) > 1 else None).tobytes())
    return digest.hexdigest()
