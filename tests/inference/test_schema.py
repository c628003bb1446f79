"""JSON answers: every one is valid JSON of its schema, or says that a limit cut it."""

import json
import os
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import jsonschema
import pytest
import tokenizers
from random_schemas import Schema, random_schema
from spine import EMBEDDED

from mlx_llava.checkpoint.folder import Checkpoint
from mlx_llava.errors import UsageError
from mlx_llava.inference import generate
from mlx_llava.inference.answer_text import AnswerText
from mlx_llava.inference.chat import Chat
from mlx_llava.inference.constraint import Vocabulary
from mlx_llava.inference.generate import Prompt
from mlx_llava.inference.prompter import Prompter
from mlx_llava.inference.sampling import Finish, Sampling
from mlx_llava.inference.schema import JsonSchema
from mlx_llava.prompts.templates import Turn
from mlx_llava.prompts.tokens import Detokenizer, Tokenizer

NUM_SCHEMAS = int(os.environ.get("NUM_SCHEMAS", "500"))
BATCH, MAX_TOKENS = 32, 64
PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
PHOTO = EMBEDDED / "examples" / "one_shape.png"


def answers(prompter: Prompter, schemas: Sequence[JsonSchema], sampling: Sampling) -> list[tuple[str, Finish, int]]:
    """Answers of the model, in one batch: text, finish and number of tokens."""
    example = prompter.encode([Turn("What is this?")], [])
    ids, embeddings = example.tokens.tolist(), prompter.embed(example, [])
    prompts = [Prompt(ids, embeddings, sampling.max_tokens, schema.start(prompter.vocabulary)) for schema in schemas]
    rows = generate.batch(prompter.checkpoint.model.language_model, prompts, sampling, prompter.stop_ids)
    results = []
    for prompt, tokens in zip(prompts, rows, strict=True):
        answer = AnswerText(prompter, sampling.max_tokens, prompt.matcher)
        results.append(("".join(answer.add(token.id) for token in tokens), answer.finish, len(tokens)))
    return results


def compiled(schema: Schema) -> JsonSchema | UsageError:
    """The constraint, or the error that no answer can be valid."""
    try:
        return JsonSchema(schema)
    except UsageError as error:
        return error


def test_every_answer_is_valid_or_says_that_it_was_cut(embedded: Checkpoint) -> None:
    rng, prompter, num_complete = Random(0), Prompter(embedded), 0
    rows = [(schema, compiled(schema)) for schema in (random_schema(rng) for _ in range(NUM_SCHEMAS))]
    usable = [(schema, row) for schema, row in rows if isinstance(row, JsonSchema)]
    assert {row.problem.partition(":")[2][:19] for _, row in rows if isinstance(row, UsageError)} <= {
        " no answer is valid"
    }
    assert len(usable) > 0.9 * NUM_SCHEMAS
    for number, start in enumerate(range(0, len(usable), BATCH)):
        batch = usable[start : start + BATCH]
        # at temperature 30 almost any allowed token comes, bytes of unfinished characters among them
        sampling = Sampling(MAX_TOKENS, temperature=(0.0, 1.0, 30.0)[number % 3], seed=number)
        for (schema, _), (text, finish, length) in zip(
            batch, answers(prompter, [row for _, row in batch], sampling), strict=True
        ):
            if finish == "length":
                assert length == MAX_TOKENS
            else:
                jsonschema.validate(json.loads(text), schema, format_checker=jsonschema.FormatChecker())
                num_complete += 1
    assert num_complete > 0.6 * len(usable)


OBJECT: Schema = {"type": "object", "properties": {"color": {"enum": ["red", "blue"]}, "count": {"enum": [1, 2]}}}


def test_an_object_has_only_the_properties_that_its_schema_lists(embedded: Checkpoint) -> None:
    schema = JsonSchema({"type": "array", "minItems": 2, "maxItems": 2, "items": {**OBJECT, "required": ["color"]}})
    for seed in range(4):
        ((text, finish, _),) = answers(Prompter(embedded), [schema], Sampling(100, temperature=30.0, seed=seed))
        assert finish == "stop"
        assert all(part.keys() <= {"color", "count"} for part in json.loads(text))


@pytest.mark.parametrize(
    "schema",
    [
        {**OBJECT, "additionalProperties": True},
        {**OBJECT, "required": ["size"]},
        {"allOf": [OBJECT, {"type": "object", "properties": {"size": {"type": "integer"}}, "required": ["size"]}]},
        {"properties": {"part": OBJECT, "size": {"$ref": "#/$defs/size"}}, "anyOf": [OBJECT], "$defs": {"size": {}}},
    ],
)
def test_other_properties_are_possible_where_the_schema_may_mean_them(schema: Schema) -> None:
    assert '"additionalProperties": false' not in JsonSchema(schema).text


BROKEN = {
    "missing.json": "missing.json: No such file",
    ".": ".: Is a directory",
    "binary": "binary: not a text file",
    "array.json": "array.json: not a JSON object",
    "torn.json": "torn.json: not JSON",
    "a\0b": "not a text file",
    "x" * 5000: "File name too long",
    '{"type"': "--schema: not JSON",
    '{"const": NaN}': "NaN is not a number",
    "[1]": "not a JSON object",
    '{"a": ' * 10**5 + "1" + "}" * 10**5: "recursion",
    '{"type": "text"}': "Invalid type: text",
    '{"properties": 5}': "properties must be an object",
    '{"not": {}}': "unsupported: not",
    '{"properties": {"a": {"if": {}, "then": {}}}}': "unsupported: if, then",
    '{"type": "array", "uniqueItems": true}': "unsupported: uniqueItems",
    '{"minProperties": 2}': "unsupported: minProperties",
    '{"items": [{"properties": {"const": {"minProperties": 2}}}]}': "unsupported: minProperties",
    '{"format": "nope", "type": "string"}': "Unknown format: nope",
    '{"oneOf": [{"type": "integer"}, {"type": "number"}]}': "oneOf is unsupported",
    '{"type": "string", "pattern": "(?=a)b"}': "pattern: look-around",
    '{"$ref": "https://example.org/schema.json"}': "a $ref outside the schema",
    '{"$ref": "#/$defs/missing"}': "'/$defs/missing' does not exist",
    '{"type": "string", "enum": []}': "no answer is valid",
    '{"minimum": 5, "maximum": 3, "type": "integer"}': "no answer is valid: minimum (5)",
    '{"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 1}': "no answer is valid",
    json.dumps({"properties": {f"key {n}": {"type": "string"} for n in range(30_000)}}): "schema too large",
}


@pytest.mark.parametrize("source", BROKEN, ids=lambda source: source[:40])
def test_a_schema_that_cannot_be_followed_is_refused(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("binary").write_bytes(b"\xff\xfe")
    Path("array.json").write_text("[1]")
    Path("torn.json").write_text('{"type": "obj')
    with pytest.raises(UsageError) as raised:
        JsonSchema.read(source, "--schema")
    assert raised.value.problem.startswith("--schema")
    assert BROKEN[source] in raised.value.problem
    assert "\n" not in raised.value.problem + raised.value.advice


WHOLE = {"$defs": {"list": {"type": "array", "items": {"$ref": "#/$defs/list"}, "minItems": 1}}, "$ref": "#/$defs/list"}


@pytest.mark.parametrize("schema", [{"$ref": "#"}, WHOLE])
def test_a_schema_without_end_is_refused_when_the_answer_starts(embedded: Checkpoint, schema: Schema) -> None:
    with pytest.raises(UsageError):
        list(Chat(embedded).ask("What?", constraint=JsonSchema(schema)))


def test_a_file_may_begin_with_a_byte_order_mark_and_be_large(tmp_path: Path, embedded: Checkpoint) -> None:
    path = tmp_path / "schema.json"
    path.write_text("\ufeff" + json.dumps({"enum": [f"value {n} of many" for n in range(50_000)]}))
    assert path.stat().st_size > 1_000_000
    prompter, schema = Prompter(embedded), JsonSchema.read(str(path))
    (text, finish, _), *_ = answers(prompter, [schema], Sampling(40))
    assert (finish, json.loads(text)[:6]) == ("stop", "value ")


def test_without_the_extra_two_lines_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(UsageError) as raised:
        JsonSchema({})
    (wanted,) = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]["schema"]
    assert f"pip install '{wanted}'" in raised.value.advice


def byte_level(spec: dict[str, Any]) -> None:
    """GPT-2's vocabulary of bytes, without a leading space of its own."""
    letters = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    pieces = ["<unk>", "<s>", "</s>", *sorted(letters), "Ġ{", '{"', '":', 'Ġ"']
    spec["model"] |= {"vocab": {piece: n for n, piece in enumerate(pieces)}, "byte_fallback": False}
    spec["model"]["merges"] = [["Ġ", "{"], ["{", '"'], ['"', ":"], ["Ġ", '"']]
    spec["added_tokens"] = spec["added_tokens"][:3]
    spec["normalizer"] = spec["post_processor"] = None
    spec["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    spec["decoder"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}


def no_strip(spec: dict[str, Any]) -> None:
    """The decoder of files saved by transformers 5 for Mistral: the first space stays."""
    spec["decoder"]["decoders"].pop()


@pytest.mark.parametrize("change", [lambda spec: None, no_strip, byte_level])
def test_any_allowed_tokens_of_any_tokenizer_spell_valid_json(
    tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    spec = json.loads((EMBEDDED / "tokenizer.json").read_text())
    change(spec)
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    tokenizer = Tokenizer.load(tmp_path / "tokenizer.json", num_rows=700, image_id=638, restart_after_image=False)
    vocabulary, rng, num_valid = Vocabulary(tokenizer, 700, frozenset({tokenizer.eos_id})), Random(1), 0
    for schema in [random_schema(rng) for _ in range(60)]:
        if isinstance(constraint := compiled(schema), UsageError):
            continue
        matcher, ids = constraint.start(vocabulary), []
        while len(ids) < 300 and not matcher.finished:
            stop, *others = sorted(matcher.allowed().nonzero()[0], key=lambda n: n != tokenizer.eos_id)
            if stop == tokenizer.eos_id:
                break
            ids.append(int(rng.choice([stop, *others])))
            matcher.advance(ids[-1])
        else:
            if not matcher.finished:
                continue  # endless text, chosen at random
        detokenizer = Detokenizer(tokenizer, drops_first_space=True)
        text = "".join(map(detokenizer.add, ids)) + detokenizer.finish()
        jsonschema.validate(json.loads(text), schema, format_checker=jsonschema.FormatChecker())
        num_valid += 1
    assert num_valid > 30
