"""Where an answer looked, in light and in words."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

from mlx_llava.engine.messages import AttentionMapped
from mlx_llava.program.text import clean_line

Weights = NDArray[np.floating]  # [side, side], a number for each patch
AROUND = 24  # tokens shown on each side of the one that is looked at
NOW = "where it looks now: text, pictures or settings may have changed"  # AttentionMapped.verbatim is false


def light(weights: Weights) -> Weights:
    """Weights stretched from 0 for the least to 1 for the most; all dark where they are all the same."""
    least, most = float(weights.min()), float(weights.max())
    return (weights - least) / (most - least) if most > least else np.zeros_like(weights)


def relative(weights: Weights, neutral: Weights) -> Weights:
    """What each patch got, in times what it gets from a neutral prompt."""
    return weights / np.maximum(neutral, np.finfo(np.float32).tiny)


def digits(weights: Weights) -> list[str]:
    """Weights as rows of digits, from 0 for nothing to 9 for the most; all 0 where there is nothing."""
    most = float(weights.max())
    levels = np.rint(weights / most * 9) if most > 0 else np.zeros_like(weights)
    return ["".join(map(str, row)) for row in levels.astype(int).tolist()]


def number_lines(looked: AttentionMapped, names: Sequence[str], token: int | None) -> list[str]:
    """Where a token looked, or all of them on average, in the pictures of these names: facts, and rows of digits."""
    if token is not None and not 0 <= token < len(looked.tokens):
        return [f"there is no token {token + 1}: {len(looked.tokens)} were said"]
    shares = looked.shares.mean(0) if token is None else looked.shares[token]
    what = "all tokens" if token is None else f"token {token + 1}, {clean_line(looked.tokens[token], 40)!r}"
    lines = [what if looked.verbatim else f"{what} · {NOW}"]
    for name, weights in zip(names, shares, strict=True):
        lines += [f"{clean_line(name, 60)}: {raw_facts(weights)}", *digits(weights)]
    return lines


def answer_line(tokens: tuple[str, ...], at: int, style: str) -> Text:
    """The answer around a token, which stands out."""
    first, text = max(at - AROUND, 0), Text("…" if at > AROUND else "")
    for n, token in enumerate(tokens[first : at + AROUND + 1], first):
        shown = clean_line(token if n else token.lstrip(), 40)
        text.append(shown, style if n == at else "")
    return text.append("…" if at + AROUND + 1 < len(tokens) else "")


def raw_facts(weights: Weights) -> str:
    """What a token gave to a picture."""
    return f"{weights.sum():.1%} of its attention is on this picture, {_range(weights, '.2%')} on a patch"


def relative_facts(weights: Weights) -> str:
    """What a token gave to a picture, over a neutral prompt."""
    return f"a patch got {_range(weights, '.2f')} times what a neutral prompt gives it"


def _range(weights: Weights, form: str) -> str:
    return f"{weights.min():{form}} to {weights.max():{form}}"
