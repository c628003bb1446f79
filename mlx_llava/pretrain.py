"""`mlx-llava pretrain`: train only the projector on images and captions, LLaVA's first stage.

Run the same command again to resume.
"""

from typing import TYPE_CHECKING

from mlx_llava.errors import UsageError
from mlx_llava.program.limits import check_limits
from mlx_llava.program.options import parse
from mlx_llava.program.run import log, run
from mlx_llava.training.options import PretrainOptions

if TYPE_CHECKING:
    from mlx_llava.models.projector import Projector


def main() -> None:
    run(lambda: pretrain(parse(PretrainOptions, "mlx-llava pretrain")))


def pretrain(options: PretrainOptions) -> int:
    """Train and write the projector; returns the exit code."""
    check_limits(options)
    if options.new_projector and options.projector:
        raise UsageError("--new-projector and --projector exclude each other", "Give one of them.")
    from mlx_llava.checkpoint import adapters
    from mlx_llava.training.prepare import INTERRUPTED, load_base, prepare, train
    from mlx_llava.training.snapshots import sole_writer

    folder = options.adapter_path
    with sole_writer(folder):
        base = load_base(options)
        model = base.checkpoint.model
        if options.new_projector:
            reinitialize(model.projector)
        finished = train(prepare(options, base, folder, "projector", projector_lr=None))
        adapters.save(folder, model, None, base.fingerprint, projector=True)
    log(f"projector written to {folder}")
    log(f"next stage: mlx-llava finetune --model {base.checkpoint.folder} --projector {folder} …")
    return 0 if finished else INTERRUPTED


def reinitialize(projector: "Projector") -> None:
    """Draw new weights and biases uniformly within ±1/√inputs, as torch's nn.Linear does, from MLX's random state."""
    import mlx.nn as nn

    for n in range(1, projector.depth + 1):
        layer = projector[f"linear_{n}"]
        outputs, inputs = layer.weight.shape
        new = nn.Linear(inputs, outputs, bias="bias" in layer)
        layer.weight = new.weight.astype(layer.weight.dtype)
        if "bias" in layer:
            layer.bias = new.bias.astype(layer.bias.dtype)


if __name__ == "__main__":
    main()
