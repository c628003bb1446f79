"""Decoding speed after a prompt with one image, for a single answer and for a batch of four.

The prompt's keys and values are noise: with quantized weights the peers would take minutes to prefill (prefill.py), and
the time of a step does not depend on the values.
"""

from collections.abc import Iterator

from generated import weights
from harness import LM, OURS, VLM, Bench, Cell, measure, name, speed, start, table

TOKENS = {1: 16, 4: 5}  # batch size: tokens per answer


def main() -> None:
    bench = start("Answering", __doc__, runs=1)
    steps = " or ".join(f"{tokens - 1} steps of {batch}" for batch, tokens in TOKENS.items())
    print(f"Greedy tokens/s, summed over the batch, after 640 positions; the median of {steps}.\n")
    table(("weights", "program", *(f"batch of {batch}" for batch in TOKENS)), decodes(bench))


def decodes(bench: Bench) -> Iterator[tuple[str, ...]]:
    for bits in (None, 8, 4):
        for side in (OURS, VLM, LM):
            arguments = weights(bench, side, bits)
            cells = [Cell(side, "decode", {"batch": b, "tokens": tokens, **arguments}) for b, tokens in TOKENS.items()]
            speeds = map(speed, measure(bench, cells), TOKENS)
            yield f"{bits} bits" if bits else "float32", name(side), *speeds


if __name__ == "__main__":
    main()
