"""Where an answer looked, in light and in words."""

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

from mlx_llava.tui.clean import clean_line

Weights = NDArray[np.floating]  # [side, side], a number for each patch
AROUND = 24  # tokens shown on each side of the one that is looked at


def light(weights: Weights) -> Weights:
    """Weights stretched from 0 for the least to 1 for the most; all dark where they are all the same."""
    least, most = float(weights.min()), float(weights.max())
    return (weights - least) / (most - least) if most > least else np.zeros_like(weights)


def relative(weights: Weights, neutral: Weights) -> Weights:
    """What each patch got, in times what it gets from a neutral prompt."""
    return weights / np.maximum(neutral, np.finfo(np.float32).tiny)


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
