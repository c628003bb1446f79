"""Attention maps over image patches, as brightness, as digits and as facts."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

from mlx_llava.engine.messages import AttentionMapped
from mlx_llava.program.text import clean_line

Weights = NDArray[np.floating]  # [side, side], a number for each patch
AROUND = 24  # tokens shown on each side of the selected one
NOW = "attention as of now: text, images or settings may have changed"  # AttentionMapped.verbatim is false


def stretch(weights: Weights) -> Weights:
    """Weights scaled so that the smallest is 0 and the largest 1; equal weights are all 0."""
    low, high = float(weights.min()), float(weights.max())
    return (weights - low) / (high - low) if high > low else np.zeros_like(weights)


def relative(weights: Weights, neutral: Weights) -> Weights:
    """The weight of each patch divided by its weight under a neutral prompt."""
    return weights / np.maximum(neutral, np.finfo(np.float32).tiny)


def digits(weights: Weights) -> list[str]:
    """Weights as rows of digits: 9 for the largest, in proportion for the others."""
    high = float(weights.max())
    levels = np.rint(weights / high * 9) if high > 0 else np.zeros_like(weights)
    return ["".join(map(str, row)) for row in levels.astype(int).tolist()]


def number_lines(attention: AttentionMapped, names: Sequence[str], token: int | None) -> list[str]:
    """The attention of a token, or of all tokens on average, to each named image: facts, then rows of digits."""
    if token is not None and not 0 <= token < len(attention.tokens):
        return [f"there is no token {token + 1}: the answer has {len(attention.tokens)}"]
    shares = attention.shares.mean(0) if token is None else attention.shares[token]
    subject = "all tokens" if token is None else f"token {token + 1}, {clean_line(attention.tokens[token], 40)!r}"
    lines = [subject if attention.verbatim else f"{subject} · {NOW}"]
    for name, weights in zip(names, shares, strict=True):
        lines += [f"{clean_line(name, 60)}: {raw_facts(weights)}", *digits(weights)]
    return lines


def answer_line(tokens: tuple[str, ...], at: int, style: str) -> Text:
    """The answer around a token, which is highlighted."""
    first, text = max(at - AROUND, 0), Text("…" if at > AROUND else "")
    for n, token in enumerate(tokens[first : at + AROUND + 1], first):
        text.append(clean_line(token if n else token.lstrip(), 40), style if n == at else "")
    return text.append("…" if at + AROUND + 1 < len(tokens) else "")


def raw_facts(weights: Weights) -> str:
    """A token's share of attention to an image, and the range over its patches."""
    return f"{weights.sum():.1%} of its attention is on this picture, {_range(weights, '.2%')} on a patch"


def relative_facts(weights: Weights) -> str:
    """The range of weights relative to a neutral prompt."""
    return f"patches get {_range(weights, '.2f')} times what a neutral prompt gives them"


def _range(weights: Weights, form: str) -> str:
    return f"{weights.min():{form}} to {weights.max():{form}}"
