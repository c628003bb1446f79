"""A second question about the same image: positions computed, and the time to the first token."""

from collections.abc import Iterator

from generated import checkpoint, weights
from harness import OURS, VLM, Bench, Cell, measure, start, table

QUESTIONS = ["What is in the picture?", "What color is the square?"]
TOKENS = 16


def main() -> None:
    bench = start("The second question", __doc__, runs=2)
    print(f"float32; an image of 576 positions, answers of {TOKENS} tokens.\n")
    head = ("program", "question", "prompt tokens", "computed", "seconds to the first token")
    table(head, answers(bench))


def answers(bench: Bench) -> Iterator[tuple[str, ...]]:
    image = str(checkpoint(bench) / "picture.png")
    task = {"image": image, "questions": QUESTIONS, "tokens": TOKENS}
    cells = [Cell(side, "second_question", task | weights(bench, side, None)) for side in (OURS, VLM)]
    for (side, *_), result in zip(cells, measure(bench, cells), strict=True):
        if "failed" in result:
            yield side, "", "", "", result["failed"]
        for number, row in zip(("first", "second"), result.get("questions", ()), strict=False):
            yield side, number, str(row["prompt"]), str(row["prefilled"]), f"{row['first']:.2f}"


if __name__ == "__main__":
    main()
