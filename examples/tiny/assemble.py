"""Assemble a LLaVA from trained parts; initialize missing parts at random.

`python examples/tiny/assemble.py OUT --tokenizer tokenizer.json [--clip FOLDER] [--language FOLDER]`
"""

import json
import shutil
from pathlib import Path

import tyro
from sizes import LLAVA  # before MLX: mlx_llava chooses the BLAS
from tyro.conf import Positional

import mlx.core as mx  # isort: skip
from mlx.utils import tree_flatten  # isort: skip

from mlx_llava.checkpoint.config_json import to_hf
from mlx_llava.checkpoint.folder import load
from mlx_llava.models.llava import Llava


def main(
    out: Positional[Path], tokenizer: Path, clip: Path | None = None, language: Path | None = None, seed: int = 0
) -> None:
    """Write a converted folder with the vision tower of `clip`, the language model of `language`, a new projector."""
    mx.random.seed(seed)
    model = Llava(LLAVA)
    if clip:
        weights: dict[str, mx.array] = mx.load(str(clip / "clip.safetensors"))  # pyright: ignore
        prefix = "vision_model."
        tower = [(name.removeprefix(prefix), x) for name, x in weights.items() if name.startswith(prefix)]
        model.vision_tower.load_weights(tower)
    if language:
        model.language_model = load(language).model.language_model
    out.mkdir(parents=True)
    mx.save_safetensors(str(out / "model.safetensors"), dict(tree_flatten(model.parameters())), {"format": "mlx"})
    (out / "config.json").write_text(json.dumps({**to_hf(LLAVA), "quantization": {}}, indent=1) + "\n")
    shutil.copy(tokenizer, out / "tokenizer.json")


if __name__ == "__main__":
    tyro.cli(main)
