"""Random JSON schemas of all that constrained answers support, mostly with short answers."""

from random import Random
from typing import Any

Schema = dict[str, Any]

KEYS = ["color", "number", "größe", "色", "🙂", 'a "quoted" key', "back\\slash", "a/b~c", ""]
VALUES = [0, -7, 2.5, True, None, "red", "grün", "火", "🙂🙂", 'say "no"', "", [], [1, "é"], {}, {"k": [None]}]
PATTERNS = ["^[a-c]{1,4}$", "^(red|blue)$", r"^\d{2}-\d{2}$", "^é+x$", r'^[^a-z\s"]{2}$']
BOUNDS = [{"minimum": -5, "maximum": 5}, {"exclusiveMinimum": 0, "exclusiveMaximum": 3}, {"minimum": 995}, {}]
ENDS = [*BOUNDS, {"minimum": 0, "maximum": 40, "multipleOf": 8}, {"maximum": -1}]


def random_schema(rng: Random) -> Schema:
    """A schema of depth two at most, with local references, some of them recursive."""
    tree = {
        "type": "object",
        "properties": {"label": _string(rng), "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/tree"}]}},
        "required": ["label"],
        "additionalProperties": False,
    }
    return {**_schema(rng, 2), "$defs": {"short": _scalar(rng), "tree": tree}}


def _schema(rng: Random, depth: int) -> Schema:
    if depth == 0:
        return _scalar(rng)
    return rng.choice([_object, _object, _object, _array, _any_of, _one_of, _all_of, _scalar])(rng, depth - 1)


def _scalar(rng: Random, depth: int = 0) -> Schema:
    return rng.choice(
        [
            _string,
            _string,
            lambda rng: {"type": "integer", **rng.choice(ENDS)},
            lambda rng: {"type": "number", **rng.choice(BOUNDS)},
            lambda rng: {"enum": rng.sample(VALUES, rng.randint(1, 4))},
            lambda rng: {"const": rng.choice(VALUES)},
            lambda _: {"type": ["boolean", "null"]},
        ]
    )(rng)


def _string(rng: Random) -> Schema:
    low = rng.randint(0, 3)
    return {
        "type": "string",
        **rng.choice(
            [
                {"minLength": low, "maxLength": low + rng.randint(0, 6)},
                {"maxLength": 3},
                {"pattern": rng.choice(PATTERNS)},
                {"format": rng.choice(["date", "ipv4"])},
                {"enum": ["red", "grün", "火"]},
            ]
        ),
    }


def _object(rng: Random, depth: int) -> Schema:
    keys = rng.sample(KEYS, rng.randint(0, 3))
    return {
        "type": "object",
        "properties": {key: _or_reference(rng, depth) for key in keys},
        "required": [key for key in keys if rng.random() < 0.6],
        "additionalProperties": rng.choice([False, False, False, {"type": "integer", "minimum": 0, "maximum": 9}]),
        **({"patternProperties": {"^x[0-9]$": _scalar(rng)}} if rng.random() < 0.2 else {}),
    }


def _or_reference(rng: Random, depth: int) -> Schema:
    reference = {"$ref": f"#/$defs/{rng.choice(['short', 'tree'])}"}
    return reference if rng.random() < 0.25 else _schema(rng, depth)


def _array(rng: Random, depth: int) -> Schema:
    low, first = rng.randint(0, 2), [_schema(rng, depth) for _ in range(rng.randint(0, 2))]
    tuples = {"prefixItems": first, "minItems": len(first)} if first and rng.random() < 0.4 else {"minItems": low}
    return {"type": "array", **tuples, "items": _or_reference(rng, depth), "maxItems": 2 + rng.randint(0, 1)}


def _any_of(rng: Random, depth: int) -> Schema:
    return {"anyOf": [_schema(rng, depth) for _ in range(rng.randint(1, 3))]}


def _one_of(rng: Random, depth: int) -> Schema:
    return {"oneOf": [_object(rng, depth), _string(rng), {"type": "integer", **rng.choice(ENDS)}, _array(rng, 0)]}


def _all_of(rng: Random, depth: int) -> Schema:
    return {"allOf": [_object(rng, depth), {"type": "object", "properties": {"number": {"type": "integer"}}}]}
