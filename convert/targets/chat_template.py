"""A prompt template in Jinja, for the `apply_chat_template` of transformers.

It writes the same text; pictures of a message stand before its text, a line each. The first `<s>` is left to the
tokenizer.
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
    """The Jinja text that writes what the pieces of the template spell."""
    layout = template.layout
    words = {
        "SYSTEM": _quoted(template.system),
        "FIRST": "".join(map(_first, layout.first)) + _shown(_opening(template)),
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
        return _shown([piece])
    return (
        f"{{%- if system -%}}{{{{ {_quoted(piece.before)} }}}}{{{{ system }}}}"
        f"{{{{ {_quoted(piece.after)} }}}}{{%- endif -%}}"
    )


def _opening(template: Template) -> list[Piece]:
    """The exchange that stands before every conversation, and what opens the question after it."""
    layout = template.layout
    pieces: list[Piece] = []
    for turn in template.opening:
        answer = Text(f"{layout.lead}{turn.answer}")
        pieces += [Text(str(turn.question)), *layout.cue, answer, *layout.end, *layout.later]
    return pieces


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _shown(pieces: Iterable[Piece]) -> str:
    return f"{{{{ {_quoted(spell(pieces))} }}}}"
