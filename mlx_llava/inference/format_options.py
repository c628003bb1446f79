"""Options that constrain an answer: to JSON, or to a list of choices."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from mlx_llava.errors import UsageError
from mlx_llava.program.flags import flag

if TYPE_CHECKING:
    from mlx_llava.inference.constraint import Constraint


@dataclass(frozen=True, kw_only=True)
class FormatOptions:
    """Format of the answer."""

    choices: Annotated[str | None, flag("A,B,...")] = None
    """Answer with exactly one of these texts."""
    json_answer: bool = False
    """Answer with a JSON object."""
    schema: Annotated[str | None, flag("FILE_OR_JSON")] = None
    """Answer with JSON that this JSON Schema describes."""


def constraint_of(options: FormatOptions) -> "Constraint | None":
    """The constraint set by the flags; UsageError if it is invalid, or if there is more than one."""
    given = {"--choices": options.choices is not None, "--json-answer": options.json_answer}
    given["--schema"] = options.schema is not None
    names = [name for name, is_given in given.items() if is_given]
    if len(names) > 1:
        raise UsageError(f"{' and '.join(names)} exclude each other", "Give one of them.")
    if options.choices is not None:
        from mlx_llava.inference.constraint import Choices

        return Choices([text.strip() for text in options.choices.split(",")])
    if options.schema is None and not options.json_answer:
        return None
    from mlx_llava.inference.schema import JsonSchema

    return JsonSchema({"type": "object"}) if options.schema is None else JsonSchema.read(options.schema, "--schema")
