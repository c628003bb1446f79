"""Splits an example into spans for people to read. Never imports MLX."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from mlx_llava.inputs import Example
from mlx_llava.prompts.tokens import Tokenizer


@dataclass(frozen=True)
class Span:
    """Consecutive tokens of one kind: one `image`, `trained` text, or `context`."""

    kind: Literal["image", "trained", "context"]
    text: str
    num_tokens: int


def spans(example: Example, tokenizer: Tokenizer) -> Iterator[Span]:
    """The spans of an example, in order; each image is one span."""

    image_at = {n: number for number, image in enumerate(example.images) for n in image.positions}

    def kind(n: int) -> tuple[str, int]:
        if n in image_at:
            return "image", image_at[n]
        return ("trained" if example.label_mask[n] else "context"), -1

    for (name, image), run_of in groupby(range(len(example.tokens)), kind):
        positions = list(run_of)
        if name == "image":
            yield Span("image", f"image {image + 1}", len(positions))
        else:
            text = tokenizer.spell(example.tokens[positions].tolist())
            yield Span("trained" if name == "trained" else "context", text, len(positions))
