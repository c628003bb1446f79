"""Seconds and memory of one training step with adapters of rank 16 on every linear layer of the text model.

A LLaVA of 36 million weights and one conversation of 307 tokens with one image; all sides have the same weights and
ids. The projector is frozen and dropout is off. QLoRA quantizes to 4 bits: in mlx-llava the text model, in mlx-vlm the
tower and the projector too.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from generated import LABELS, OUR_BLASES, weights
from harness import BEST, PEFT, VLM, WHEEL, Bench, Cell, measure, start, table
from model import SMALL

SIDES = {  # by bits; peft quantizes on GPUs only
    None: (*OUR_BLASES, (VLM, BEST), (PEFT, BEST)),
    4: (*OUR_BLASES, (VLM, BEST)),
}
RANK, STEPS = 16, {None: 6, 4: 3}  # steps per process; the first is a warm-up


def main() -> None:
    bench = start("A training step", __doc__, runs=3)
    print(f"{STEPS[None]} steps ({STEPS[4]} with 4 bits) in each of {bench.runs} processes. Recompute:")
    print("activations of blocks are recomputed in the backward pass. The loss is that of the first step; mlx-vlm's")
    print("differs because its attention sees later tokens.\n")
    head = ("weights", "recompute", "program", "BLAS", "seconds", "MLX peak, MB", "process peak, MB", "loss")
    table(head, steps(bench))


def steps(bench: Bench) -> Iterator[tuple[str, ...]]:
    for bits in (None, 4):
        for recompute in (False, True):
            task = {"rank": RANK, "steps": STEPS[bits], "recompute": recompute}
            cells = [
                Cell(side, "train_step", task | weights(bench, side, bits, SMALL), blas, once=blas == WHEEL)
                for side, blas in SIDES[bits]
            ]
            for cell, result in zip(cells, measure(bench, cells), strict=True):
                yield LABELS[bits], "yes" if recompute else "no", cell.side, cell.blas_name, *row(result)


def row(result: Mapping[str, Any]) -> tuple[str, ...]:
    """The cells of one side, or why its run failed."""
    if "failed" in result:
        return result["failed"], "", "", ""
    peak = f"{result['peak'] / 1e6:.0f}" if result["peak"] else "not MLX"
    return f"{result['seconds']:.2f}", peak, f"{result['process'] / 1e6:.0f}", f"{result['loss']:.4f}"


if __name__ == "__main__":
    main()
