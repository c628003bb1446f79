"""A batch as lines of text: which tokens are trained, what padding costs, and thumbnails of the images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from mlx_llava.data.builder import ExampleBuilder
from mlx_llava.data.records import Record
from mlx_llava.images.pixels import to_image
from mlx_llava.images.thumbnail import thumbnail
from mlx_llava.inputs import Example
from mlx_llava.program.text import printable
from mlx_llava.prompts.tokens import Tokenizer

COLUMNS = 32  # of a thumbnail


def lines(
    records: Sequence[Record], examples: Sequence[Example], builder: ExampleBuilder, *, color: bool
) -> Iterator[str]:
    """The lines of a batch. Trained text is green and images are drawn; without color, trained text is in 【】."""
    lengths = [len(example.tokens) for example in examples]
    trained = sum(int(example.label_mask.sum()) for example in examples)
    padding = 1 - sum(lengths) / (max(lengths) * len(lengths))
    yield (
        f"{len(lengths)} record{'s' * (len(lengths) > 1)}, {sum(lengths)} tokens, {trained} trained; "
        f"padded to {max(lengths)}: {padding:.0%} padding"
    )
    for record, example in zip(records, examples, strict=True):
        yield ""
        images = f", {int((example.slots >= 0).sum())} of images: {', '.join(record.images)}" if record.images else ""
        yield printable(f"{record.id}: {len(example.tokens)} tokens, {int(example.label_mask.sum())} trained{images}")
        for crop in example.crops if color else ():
            yield from thumbnail(to_image(crop, builder.image), COLUMNS)
        yield _text(example, builder, color)


def _text(example: Example, builder: ExampleBuilder, color: bool) -> str:
    start, end = ("\x1b[32m", "\x1b[0m") if color else ("【", "】")
    text = ""
    for span in spans(example, builder.tokenizer):
        piece = printable(span.text).replace("\n", "⏎\n")
        if span.kind == "image":
            piece = f"[{piece}: {span.num_tokens} tokens]"
        text += f"{start}{piece}{end}" if span.kind == "trained" else piece
    return text


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
