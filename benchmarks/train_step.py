"""Seconds and memory of one training step: adapters of rank 16 on every linear layer of the text model.

A LLaVA of 36 million weights, one conversation of 307 tokens with one picture, the same weights and ids on all sides.
The projector is frozen, dropout off. QLoRA packs into 4 bits: we the text model, mlx-vlm the tower and projector too.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from harness import OURS, PEFT, VLM, Bench, Cell, measure, start, table
from model import SMALL, weights

RANK, STEPS = 16, {None: 6, 4: 3}  # steps in a process, the first of which warms up


def main() -> None:
    """Print the table."""
    bench = start("A training step", __doc__, runs=2)
    print(f"The fastest of {STEPS[None]} steps ({STEPS[4]} with 4 bits) in each of {bench.runs} processes. Recompute:")
    print("activations of blocks are computed again in the backward pass. The loss is the first step's; mlx-vlm's")
    print("is another as its attention looks ahead.\n")
    head = ("weights", "recompute", "program", "seconds", "peak of MLX, MB", "peak of the process, MB", "loss")
    table(head, steps(bench))


def steps(bench: Bench) -> Iterator[tuple[str, ...]]:
    """Rows of the table."""
    for bits in (None, 4):
        for recompute in (False, True):
            sides = (OURS, VLM) if bits else (OURS, VLM, PEFT)  # peft packs on GPUs alone
            task = {"rank": RANK, "steps": STEPS[bits], "recompute": recompute}
            cells = [Cell(side, "train_step", task | weights(bench, side, bits, SMALL)) for side in sides]
            for cell, result in zip(cells, measure(bench, cells), strict=True):
                yield f"{bits} bits" if bits else "float32", "yes" if recompute else "no", cell.side, *row(result)


def row(result: Mapping[str, Any]) -> tuple[str, ...]:
    """What one side's steps took."""
    if "failed" in result:
        return result["failed"], "", "", ""
    peak = f"{result['peak'] / 1e6:.0f}" if result["peak"] else "not MLX"
    return f"{result['seconds']:.2f}", peak, f"{result['process'] / 1e6:.0f}", f"{result['loss']:.4f}"


if __name__ == "__main__":
    main()
