"""The constraint to JSON that a JSON Schema describes. The only user of llguidance.

The answer is written as Python's `json.dumps` does: no line breaks, one space after a comma and a colon. Small models
that may choose their own whitespace fill the answer with line breaks.
"""

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlx_llava.errors import UsageError
from mlx_llava.inference.constraint import Matcher, Vocabulary, wrong_token
from mlx_llava.program.paths import expand_home

if TYPE_CHECKING:
    from llguidance import LLMatcher

LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
EXAMPLE = """For example: '{"type": "object", "properties": {"color": {"type": "string"}}}'"""
NAMED = ("properties", "patternProperties", "$defs", "definitions")  # keywords whose keys are names
COMBINED = {"anyOf", "oneOf", "$ref"}  # keywords whose schemas may describe further properties of an object
OPEN = {"additionalProperties", "patternProperties", "unevaluatedProperties"}
VALUES = ("const", "enum", "default", "examples")  # keywords whose values are no schemas
_LOOSEN = "Change the schema so that some answer fits."
_MEANINGS = (  # how a message of llguidance begins, what it means and what helps
    ("Unsatisfiable schema: ", "no answer is valid: ", _LOOSEN),
    ("NoExtension", "no answer is valid", _LOOSEN),
    ("oneOf ", "oneOf is unsupported where alternatives may overlap", "Use anyOf, or alternatives of different types."),
    ("Resource ", "a $ref outside the schema", "Copy what it names into $defs, and refer to that."),
    ("regex parse error: ", "pattern: ", "Correct the pattern; look-ahead and back-references are unsupported."),
)


class JsonSchema:
    """The answer is JSON that a JSON Schema describes."""

    def __init__(self, schema: Mapping[str, Any], name: str = "the schema") -> None:
        """UsageError, with the `name` that its user knows, if the schema is invalid or has unsupported keywords."""
        self.name = name
        _check(schema, json.dumps({**schema, "x-guidance": LAYOUT}), name)
        self.text = json.dumps({**_closed(schema), "x-guidance": LAYOUT})

    @classmethod
    def read(cls, source: str, name: str = "the schema") -> "JsonSchema":
        """The schema in a file, or in the text itself if it looks like JSON."""
        if source.lstrip().startswith(("{", "[")):
            return cls(_object(source, name), name)
        name = f"{name} {source}"
        try:
            text = expand_home(source).read_text(encoding="utf-8-sig")
        except (OSError, ValueError, RuntimeError) as error:
            problem = (error.strerror if isinstance(error, OSError) else None) or "not a text file"
            raise UsageError(f"{name}: {problem}", f"Name a file, or give the schema itself. {EXAMPLE}") from None
        return cls(_object(text, name), name)

    def start(self, vocabulary: Vocabulary) -> Matcher:
        """The matcher of a new answer; UsageError if no answer is valid."""
        first = _first_matcher(self.text, vocabulary)
        matcher = SchemaMatcher(first.deep_copy(), vocabulary, self.name)
        matcher.allowed()  # some contradictions show only here
        return matcher


class SchemaMatcher:
    """Allows any tokens that go on to JSON of the schema."""

    def __init__(self, matcher: "LLMatcher", vocabulary: Vocabulary, name: str) -> None:
        self._matcher = matcher
        self._size = vocabulary.size
        self._name = name

    @property
    def finished(self) -> bool:
        return self._matcher.is_stopped() and not self._matcher.is_error()

    def allowed(self) -> NDArray[np.bool_]:
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        if self._matcher.is_error():
            raise _error(self._name, self._matcher.get_error())
        return np.unpackbits(bits, count=self._size, bitorder="little").astype(bool)

    def advance(self, token: int) -> None:
        if not self._matcher.consume_token(token):
            message = self._matcher.get_error()
            raise wrong_token() if "doesn't satisfy the grammar" in message else _error(self._name, message)


class _Tokens:
    """A vocabulary as llguidance's `LLTokenizer` reads it (llguidance/_tokenizer.py)."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.eos_token_id = min(vocabulary.stop_ids)
        self.tokens = [vocabulary.spellings.get(token, b"") for token in range(vocabulary.size)]
        self.special_token_ids = sorted(vocabulary.stop_ids)
        self._encode = vocabulary.tokenizer.text_ids

    def __call__(self, text: str | bytes) -> Sequence[int]:
        return self._encode(text.decode() if isinstance(text, bytes) else text)


@lru_cache(maxsize=4)
def _first_matcher(schema: str, vocabulary: Vocabulary) -> "LLMatcher":
    llguidance = _library()
    grammar = llguidance.LLMatcher.grammar_from_lark(f'start: " "? answer\nanswer: %json {schema}')
    return llguidance.LLMatcher(_tokenizer(vocabulary), grammar, log_level=0)


@lru_cache(maxsize=4)
def _tokenizer(vocabulary: Vocabulary) -> Any:
    tokens: Any = _Tokens(vocabulary)
    stops = sorted(vocabulary.stop_ids)
    return _library().LLTokenizer(tokens, n_vocab=vocabulary.size, eos_token=stops)


def _library() -> Any:
    try:
        import llguidance
    except ImportError:
        raise UsageError(
            "JSON answers need llguidance", "Run pip install 'llguidance>=1.9,<2' (the extra `schema`)."
        ) from None
    return llguidance


def _object(text: str, name: str) -> dict[str, Any]:
    try:
        schema = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name}: not JSON: {error}", EXAMPLE) from None
    if not isinstance(schema, dict):
        raise UsageError(f"{name}: not a JSON object", EXAMPLE)
    return schema


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")  # Python reads NaN and Infinity


def _check(schema: Mapping[str, Any], text: str, name: str) -> None:
    """Raise UsageError for what llguidance rejects, and for the one keyword that it does not enforce."""
    library = _library().LLMatcher
    try:
        problems = library.validate_grammar_with_warnings(library.grammar_from_json_schema(text))[1]
    except ValueError as error:
        problems = [str(error)]
    if problems:
        raise _error(name, problems[0])
    # an object may repeat a key, and a reader of JSON then counts it once
    if any(part.get("minProperties", 0) > len(part.get("required", ())) for part in _subschemas(schema)):
        raise UsageError(f"{name}: unsupported: minProperties", "List the properties in `required` instead.")


def _closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema, where an object that lists its properties has no others unless the schema mentions them.

    JSON Schema allows any others, and a small model then adds some until the answer reaches its limit.
    """
    closed = copy.deepcopy(dict(schema))
    parts = list(_subschemas(closed))
    if any("allOf" in part or ("properties" in part and part.keys() & COMBINED) for part in parts):
        return closed
    for part in parts:
        named = part.get("properties")
        if named and not part.keys() & OPEN and {*part.get("required", ())} <= named.keys():
            part["additionalProperties"] = False
    return closed


def _error(name: str, message: str) -> UsageError:
    """An error of llguidance in a user's words; the library has one string for whatever is wrong."""
    message = " ".join(message.partition("<state>")[0].partition(" at line ")[0].split())
    if message.startswith("Unimplemented keys: "):
        keywords = ", ".join(json.loads(message.removeprefix("Unimplemented keys: ")))
        return UsageError(f"{name}: unsupported: {keywords}", "Leave it out, and check the answer for it yourself.")
    for beginning, meaning, advice in _MEANINGS:
        if message.startswith(beginning):
            detail = message.removeprefix(beginning).rpartition("error: ")[2] if beginning.endswith(": ") else ""
            return UsageError(f"{name}: {meaning}{detail}", advice)
    return UsageError(f"{name}: {message}", "Correct the schema, or make it smaller.")


def _subschemas(schema: object) -> Iterator[dict[str, Any]]:
    """A schema and those within it."""
    if isinstance(schema, list):
        for part in schema:
            yield from _subschemas(part)
    if isinstance(schema, dict):
        yield schema
        for keyword, value in schema.items():
            if keyword in NAMED and isinstance(value, dict):
                yield from _subschemas([*value.values()])
            elif keyword not in VALUES:
                yield from _subschemas(value)
