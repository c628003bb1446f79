"""Tokens per second of answers, alone and four together, after a prompt with one picture.

The prompt's keys and values are noise: reading it would take the peers minutes with packed weights (prefill.py),
and how long a step takes does not depend on them. All sides with the fast BLAS.
"""

from collections.abc import Iterator

from harness import LM, OURS, VLM, Bench, Cell, measure, name, speed, start, table
from model import weights

TOKENS = {1: 16, 4: 5}  # of each answer, by the number of answers


def main() -> None:
    """Print the table."""
    bench = start("Answering", __doc__, runs=1)
    steps = " or ".join(f"{tokens - 1} steps of {batch}" for batch, tokens in TOKENS.items())
    print(f"Greedy tokens/s of all answers together, after 640 positions; from the fastest of {steps}.\n")
    table(("weights", "program", *(f"answers: {batch}" for batch in TOKENS)), decodes(bench))


def decodes(bench: Bench) -> Iterator[tuple[str, ...]]:
    """Rows of the table."""
    for bits in (None, 8, 4):
        for side in (OURS, VLM, LM):
            place = weights(bench, side, bits)
            cells = [Cell(side, "decode", {"batch": b, "tokens": tokens, **place}) for b, tokens in TOKENS.items()]
            speeds = map(speed, measure(bench, cells), TOKENS)
            yield f"{bits} bits" if bits else "float32", name(side), *speeds


if __name__ == "__main__":
    main()
