"""A second question about the same picture: what is computed again, and how long the first word takes."""

from collections.abc import Iterator

from harness import OURS, VLM, Bench, Cell, measure, start, table
from model import checkpoint, weights

QUESTIONS = ["What is in the picture?", "What color is the square?"]
TOKENS = 16


def main() -> None:
    """Print the table."""
    bench = start("The second question", __doc__, runs=2)
    print(f"float32; a picture of 576 positions, answers of {TOKENS} tokens; the fastest of {bench.runs}.\n")
    head = ("program", "question", "prompt tokens", "computed", "seconds to the first token")
    table(head, answers(bench))


def answers(bench: Bench) -> Iterator[tuple[str, ...]]:
    """Rows of the table."""
    image = str(checkpoint(bench) / "picture.png")
    task = {"image": image, "questions": QUESTIONS, "tokens": TOKENS}
    cells = [Cell(side, "second_question", task | weights(bench, side, None)) for side in (OURS, VLM)]
    for (side, *_), result in zip(cells, measure(bench, cells), strict=True):
        if "failed" in result:
            yield side, "", "", "", result["failed"]
        for number, asked in zip(("first", "second"), result.get("asked", ()), strict=False):
            yield side, number, str(asked["prompt"]), str(asked["prefilled"]), f"{asked['first']:.2f}"


if __name__ == "__main__":
    main()
