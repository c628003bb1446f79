"""Whether a tokenizer makes at most one token per byte of text, and one more for a space that it puts in front."""

from collections.abc import Mapping
from typing import Any

SPACE = "▁"
Step = Mapping[str, Any]


def at_most_one_token_per_byte(spec: Mapping[str, Any]) -> bool:
    """Whether that is sure for a BPE tokenizer.json.

    Merges only join, and a character that is not in the vocabulary becomes its bytes, the unknown token, or nothing.
    Two things can break the bound: a normalizer that lengthens a text (NFKC makes 18 characters of one), and a space
    that becomes `▁` without a token of its own, which is then three bytes.
    """
    steps = [*_steps(spec.get("normalizer"), "normalizers"), *_steps(spec.get("pre_tokenizer"), "pretokenizers")]
    if not all(map(_keeps_length, steps)) or sum(map(_adds_space, steps)) > 1:
        return False
    model = spec["model"]
    if any(model.get(key) for key in ("continuing_subword_prefix", "end_of_word_suffix")):
        return False
    return SPACE in model["vocab"] or all(step["type"] == "ByteLevel" for step in steps)


def _steps(step: Step | None, key: str) -> list[Step]:
    if not step:
        return []
    return [*step[key]] if step["type"] == "Sequence" else [step]


def _keeps_length(step: Step) -> bool:
    """Whether a step writes one character, or byte, for each of the text, besides a space in front."""
    match step:
        case {"type": "Prepend", "prepend": text} | {"type": "Metaspace", "replacement": text}:
            return text == SPACE
        case {"type": "Replace", "pattern": {"String": " "}, "content": text}:
            return text == SPACE
        case {"type": "ByteLevel"}:
            return True
    return False


def _adds_space(step: Step) -> bool:
    match step:
        case {"type": "Prepend" | "Metaspace"}:
            return True
        case {"type": "ByteLevel"}:
            return step.get("add_prefix_space", True)
    return False
