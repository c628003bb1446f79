"""A prompt template in Jinja, for `apply_chat_template` of transformers.

It writes the same text. Images of a message come before its text, one per line; the tokenizer adds the first `<s>`.
"""

import json
from collections.abc import Iterable

from mlx_llava.prompts.templates import Piece, System, Template, Text, spell

_TEMPLATE = """\
{%- if messages[0]['role'] == 'system' -%}
{%- set system, turns = messages[0]['content'], messages[1:] -%}
{%- if system is not string -%}{%- set system = system[0]['text'] -%}{%- endif -%}
{%- else -%}{%- set system, turns = SYSTEM, messages -%}{%- endif -%}
FIRST
{%- for turn in turns -%}
{%- set content -%}
{%- if turn['content'] is string -%}{{ turn['content'] }}
{%- else -%}
{%- for part in turn['content'] if part['type'] == 'image' -%}{{ IMAGE }}{%- endfor -%}
{%- for part in turn['content'] if part['type'] == 'text' -%}{{ part['text'] }}{%- endfor -%}
{%- endif -%}
{%- endset -%}
{%- if turn['role'] == 'user' -%}
{%- if not loop.first -%}{{ LATER }}{%- endif -%}{{ content }}
{%- if add_generation_prompt or not loop.last -%}{{ CUE }}{%- endif -%}
{%- else -%}{{ LEAD }}{{ content }}{{ END }}{%- endif -%}
{%- endfor -%}"""


def jinja(template: Template) -> str:
    """The Jinja source that writes the pieces of the template."""
    layout = template.layout
    words = {
        "SYSTEM": _quoted(template.system),
        "FIRST": "".join(map(_first, layout.first)) + _output(_opening(template)),
        "IMAGE": _quoted(spell(template.image) + "\n"),
        "LATER": _quoted(spell(layout.later)),
        "CUE": _quoted(spell(layout.cue)),
        "LEAD": _quoted(layout.lead),
        "END": _quoted(spell(layout.end)),
    }
    text = "".join(_TEMPLATE.splitlines())
    for word, value in words.items():
        text = text.replace(word, value, 1)
    return text


def _first(piece: Piece | System) -> str:
    if not isinstance(piece, System):
        return _output([piece])
    before, after = _output([Text(piece.before)]), _output([Text(piece.after)])
    return f"{{%- if system -%}}{before}{{{{ system }}}}{after}{{%- endif -%}}"


def _opening(template: Template) -> list[Piece]:
    """The turns that open every conversation, and what precedes the question after them."""
    layout = template.layout
    pieces: list[Piece] = []
    for turn in template.opening:
        answer = Text(f"{layout.lead}{turn.answer}")
        pieces += [Text(str(turn.question)), *layout.cue, answer, *layout.end, *layout.later]
    return pieces


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _output(pieces: Iterable[Piece]) -> str:
    return f"{{{{ {_quoted(spell(pieces))} }}}}"
