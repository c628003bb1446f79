"""A batch as a self-contained HTML page: text, what is trained, and the images as the vision tower gets them."""

import base64
from collections.abc import Iterator, Sequence
from html import escape

from mlx_llava.data.builder import ExampleBuilder
from mlx_llava.data.preview import spans
from mlx_llava.data.records import Record
from mlx_llava.images.pixels import png
from mlx_llava.inputs import Example

STYLE = """
body { font: 15px/1.6 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; color: #222; background: #fff }
article { border-top: 1px solid #ccc; padding: 1rem 0 }
h2 { font-size: 1rem; margin: 0 0 .5rem }
p { white-space: pre-wrap; overflow-wrap: anywhere; font-family: ui-monospace, monospace; font-size: 13px }
.trained { background: #c9efc9 }
.image { background: #dde6f7; border-radius: 3px; padding: 0 .3em }
.bar { background: #eee; height: .5rem } .bar i { display: block; height: 100%; background: #7aa7d9 }
img { image-rendering: pixelated; height: 168px; margin-right: .5rem; border: 1px solid #ccc }
@media (prefers-color-scheme: dark) {
  body { background: #1b1b1b; color: #ddd } .trained { background: #1f4d1f } .image { background: #2b3a57 }
}
"""


def page(records: Sequence[Record], examples: Sequence[Example], builder: ExampleBuilder) -> str:
    """The HTML page; the bar under a heading shows how much of the padded row is filled."""
    longest = max(len(example.tokens) for example in examples)
    articles = "".join(
        _article(record, example, builder, longest) for record, example in zip(records, examples, strict=True)
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>A batch as the model sees it</title>'
        f"<style>{STYLE}</style><h1>A batch as the model sees it</h1>"
        f'<p><span class="trained">trained</span> <span class="image">image</span> context</p>{articles}</html>'
    )


def _article(record: Record, example: Example, builder: ExampleBuilder, longest: int) -> str:
    length, trained = len(example.tokens), int(example.label_mask.sum())
    images = "".join(_images(record, example, builder))
    return (
        f"<article><h2>{escape(record.id)}: {length} tokens, {trained} trained</h2>"
        f'<div class="bar"><i style="width: {100 * length / longest:.1f}%"></i></div>'
        f"<p>{''.join(_text(example, builder))}</p>{images}</article>"
    )


def _text(example: Example, builder: ExampleBuilder) -> Iterator[str]:
    for span in spans(example, builder.tokenizer):
        text = f"{span.text} · {span.num_tokens} tokens" if span.kind == "image" else span.text
        yield f'<span class="{span.kind}">{escape(text)}</span>'


def _images(record: Record, example: Example, builder: ExampleBuilder) -> Iterator[str]:
    for name, crop in zip(record.images, example.crops, strict=True):
        data = base64.b64encode(png(crop, builder.image)).decode()
        yield f'<img src="data:image/png;base64,{data}" alt="{escape(name)}" title="{escape(name)}">'
