"""Decoding speed and memory after a prompt with one image, for a single answer and for a batch of four.

The prompt's keys and values are noise, except in llama.cpp: with quantized weights mlx-lm would take minutes to prefill
(prefill.py), and the time of a step does not depend on the values. Sides that take minutes are measured in one process
only, and not at all without `--shared`.
"""

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from generated import LABELS, TEXT_SIDES, is_slow, weights
from harness import Bench, Cell, measure_all, name, start, table

TOKENS = {1: 16, 4: 8}  # batch size: tokens per answer


def main() -> None:
    bench = start("Answering", __doc__, runs=3)
    steps = " and ".join(f"{tokens - 1} steps of {batch}" for batch, tokens in TOKENS.items())
    print(f"Greedy tokens/s, summed over the batch, after 640 positions; {steps} per process.\n")
    head = ("weights", "program", "BLAS", *(f"batch of {batch}" for batch in TOKENS), "process peak, GB")
    table(head, decodes(bench))


def decodes(bench: Bench) -> Iterator[tuple[str, ...]]:
    for bits, sides in TEXT_SIDES.items():
        cells = []
        for side, blas in sides:
            slow = is_slow(side, blas, bits)
            task = {"batches": list(TOKENS.items())} | weights(bench, side, bits)
            if bench.shared or not slow:
                cells.append(Cell(side, "decode", task, blas, once=slow))
        for cell, results in zip(cells, measure_all(bench, cells), strict=True):
            yield LABELS[bits], name(cell.side), cell.blas_name, *row(results)


def row(results: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """The cells of one side, or why a run of it failed."""
    for result in results:
        if "failed" in result:
            return result["failed"], "", ""
    steps = zip(*(result["steps"] for result in results), strict=True)
    speeds = (f"{batch / median(times):.2f}" for batch, times in zip(TOKENS, steps, strict=True))
    return *speeds, f"{median(result['process'] for result in results) / 1e9:.1f}"


if __name__ == "__main__":
    main()
