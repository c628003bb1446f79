"""`mlx-llava pretrain`: train the projector alone on pictures and captions, the first stage of LLaVA.

Run again with the same words, it goes on where it was stopped.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from mlx_llava.errors import UsageError
from mlx_llava.program.options import optional, parse
from mlx_llava.program.run import run
from mlx_llava.training.prepare import INTERRUPTED, TuningOptions, check, load_base, prepare, say, train

if TYPE_CHECKING:
    from mlx_llava.models.projector import Projector


@dataclass(frozen=True, kw_only=True)
class PretrainOptions(TuningOptions):
    """Train the projector on pictures and captions; tower and language model stay as they are.

    The defaults are those of LLaVA-1.5's scripts/v1_5/pretrain.sh, for one machine: a batch of 32 for each of
    8 devices there is an accumulation of 8 here.
    """

    adapter_path: Path
    """Folder for the projector and snapshots; a run that stopped goes on from there."""
    new_projector: bool = False
    """Draw the projector anew, instead of starting from the model's."""
    template: Annotated[str, optional("NAME")] = "plain"
    """Prompt template: a picture and its caption, unless given."""
    fit: Literal["crop", "pad"] = "crop"
    """Crop the middle of a picture, or pad it to a square. LLaVA's first stage crops, whatever comes later."""
    batch_size: int = 32
    """Captions in a batch."""
    group_by_length: bool = False
    """A batch holds captions of like length."""
    learning_rate: float = 1e-3
    """Peak learning rate."""


def main() -> None:
    """Run the program."""
    run(lambda: pretrain(parse(PretrainOptions, "mlx-llava pretrain")))


def pretrain(options: PretrainOptions) -> int:
    """Train; the exit code."""
    check(options)
    if options.new_projector and options.projector:
        raise UsageError("--new-projector and --projector exclude each other", "Give one of them.")
    from mlx_llava.checkpoint import adapters
    from mlx_llava.training.snapshots import sole_writer

    with sole_writer(options.adapter_path):
        base = load_base(options)
        model = base.checkpoint.model
        if options.new_projector:
            redraw(model.projector)
        work = prepare(options, base, options.adapter_path, "projector", projector_lr=None)
        finished = train(work)
        adapters.save(options.adapter_path, model, None, base.fingerprint, projector=True)
    say(f"projector written to {options.adapter_path}")
    say(f"go on with it: mlx-llava finetune --model {base.checkpoint.folder} --projector {options.adapter_path} …")
    return 0 if finished else INTERRUPTED


def redraw(projector: "Projector") -> None:
    """Draw weights and biases uniformly within ±1/√inputs, as torch's nn.Linear does, from MLX's random state."""
    import mlx.nn as nn

    for n in range(1, projector.depth + 1):
        layer = projector[f"linear_{n}"]
        outputs, inputs = layer.weight.shape
        drawn = nn.Linear(inputs, outputs, bias="bias" in layer)
        layer.weight = drawn.weight.astype(layer.weight.dtype)
        if "bias" in layer:
            layer.bias = drawn.bias.astype(layer.bias.dtype)


if __name__ == "__main__":
    main()
