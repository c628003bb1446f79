"""A chat as one self-contained HTML page: images embedded, no scripts, nothing loaded from the network."""

import base64
import time
from collections.abc import Iterator, Mapping
from html import escape
from typing import TYPE_CHECKING

from mlx_llava.program.text import clean, clean_line
from mlx_llava.tui.history.image_copies import SavedImage
from mlx_llava.tui.history.queries import SavedChat, SavedMessage

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.6 system-ui, sans-serif; margin: 2rem auto; padding: 0 1rem; max-width: 46rem; color: #222;
  background: #fff; overflow-wrap: anywhere }
header { border-bottom: 1px solid #8886; margin-bottom: 1.5rem }
h1 { font-size: 1.4rem; margin: 0 } header p, figcaption, footer { color: #777; font-size: .85rem }
.question { white-space: pre-wrap; background: #eef2f8; border-radius: .7rem; padding: .7rem 1rem; margin-top: 2rem }
.answer { padding: 0 1rem } figure { margin: 1.5rem 0 .5rem } img { max-width: 100%; max-height: 24rem }
pre { background: #8882; padding: .7rem; overflow-x: auto }
code { font-family: ui-monospace, monospace; font-size: .9em }
table { border-collapse: collapse } td, th { border: 1px solid #8886; padding: .2rem .6rem }
@media (prefers-color-scheme: dark) { body { background: #1b1b1b; color: #ddd } .question { background: #26303d } }
"""


def page(chat: SavedChat, pngs: Mapping[str, bytes]) -> str:
    """The current path of a chat; `pngs` maps digests of images to their content."""
    title = escape(clean_line(chat.info.title) or "Chat")
    day = time.strftime("%Y-%m-%d", time.localtime(chat.info.created))
    markdown = _markdown()
    messages = "".join(part for message in chat.path() for part in _message(message, pngs, markdown))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><meta name="referrer" content="no-referrer">'
        f'<meta name="viewport" content="width=device-width"><title>{title}</title><style>{STYLE}</style></head>'
        f"<body><header><h1>{title}</h1><p>{escape(clean_line(chat.info.model))} · {day}</p></header>"
        f"<main>{messages}</main></body></html>\n"
    )


def _message(message: SavedMessage, pngs: Mapping[str, bytes], markdown: "MarkdownIt") -> Iterator[str]:
    if message.role == "assistant":
        note = "<footer>edited</footer>" if message.edited else ""
        yield f'<div class="answer">{markdown.render(clean(message.text))}{note}</div>'
        return
    yield from (_figure(image, pngs.get(image.digest)) for image in message.images)
    yield f'<div class="question">{escape(clean(message.text))}</div>'


def _figure(image: SavedImage, png: bytes | None) -> str:
    name = escape(clean_line(image.name))
    note = (" · not shown to the model" if image.off else "") + ("" if png else " · the image is missing")
    tag = f'<img src="data:image/png;base64,{base64.b64encode(png).decode()}" alt="{name}">' if png else ""
    return f"<figure>{tag}<figcaption>{name}{note}</figcaption></figure>"


def _markdown() -> "MarkdownIt":
    """A Markdown renderer without raw HTML, and without images, which the page would load from the network."""
    from markdown_it import MarkdownIt  # late: only a page needs it

    markdown = MarkdownIt("commonmark", {"html": False, "maxNesting": 20})
    return markdown.enable(["table", "strikethrough"]).disable("image")
