"""Where an answer looked, as light on a picture: from patches of a square back to the picture it was made from."""

from math import floor

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

from mlx_llava.tui.blocks import Pixels, heat
from mlx_llava.tui.clean import clean_line
from mlx_llava.tui.messages import Fit

Weights = NDArray[np.floating]  # [side, side], a number for each patch
AROUND = 24  # tokens shown on each side of the one that is looked at


def light(weights: Weights) -> Weights:
    """Weights stretched from 0 for the least to 1 for the most; all dark where they are all the same."""
    least, most = float(weights.min()), float(weights.max())
    return (weights - least) / (most - least) if most > least else np.zeros_like(weights)


def relative(weights: Weights, neutral: Weights) -> Weights:
    """What each patch got, in times what it gets from a neutral prompt."""
    return weights / np.maximum(neutral, np.finfo(np.float32).tiny)


def extent(size: tuple[int, int], fit: Fit, side: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where a picture begins and ends on the square made from it, across and down; the square goes from 0 to 1."""
    shorter, longer = min(size), max(size)
    if fit == "pad":
        spans = [((longer - edge) // 2 / longer, edge) for edge in size]
        return tuple((start, start + edge / longer) for start, edge in spans)  # pyright: ignore[reportReturnType]
    resized = [side if edge == shorter else side * longer // shorter for edge in size]
    return tuple((-((n - side) // 2) / side, (n - (n - side) // 2) / side) for n in resized)  # pyright: ignore


def on_picture(
    weights: Weights, across: tuple[float, float], down: tuple[float, float], size: tuple[int, int]
) -> Weights:
    """Weights by pixel of a picture drawn `size` (width, height); NaN where the square did not reach.

    As in `blocks.heat`, the largest where a pixel shows several patches.
    """
    rows = _along(weights, down, size[1])
    return _along(rows.T, across, size[0]).T


def _along(weights: Weights, span: tuple[float, float], pixels: int) -> Weights:
    """The first axis of weights, `pixels` long and stretched over the span."""
    edges = (span[0] + (span[1] - span[0]) * np.arange(pixels + 1) / pixels) * len(weights) + 1e-9
    drawn = np.full((pixels, weights.shape[1]), np.nan)
    for n, (start, end) in enumerate(zip(map(floor, edges[:-1]), map(floor, edges[1:]), strict=True)):
        shown = weights[max(start, 0) : max(end, start + 1, 0)]
        drawn[n] = shown.max(0) if len(shown) else np.nan
    return drawn


def lit(pixels: Pixels, weights: Weights, size: tuple[int, int], fit: Fit, side: int) -> Pixels:
    """A drawn picture, which was `size` large, lit where its patches weigh; nearly black where it was cut off."""
    height, width = pixels.shape[:2]
    shown = on_picture(weights, *extent(size, fit, side), (width, height))
    return np.where(np.isnan(shown)[..., None], pixels // 8, heat(pixels, shown))


def answer_line(tokens: tuple[str, ...], at: int, style: str) -> Text:
    """The answer around a token, which stands out."""
    first, text = max(at - AROUND, 0), Text("…" if at > AROUND else "")
    for n, token in enumerate(tokens[first : at + AROUND + 1], first):
        text.append(clean_line(token, 40), style if n == at else "")
    return text.append("…" if at + AROUND + 1 < len(tokens) else "")


def raw_facts(weights: Weights) -> str:
    """What a token gave to a picture."""
    return f"{weights.sum():.1%} of its attention is on this picture, {_range(weights, '.2%')} on a patch"


def relative_facts(weights: Weights) -> str:
    """What a token gave to a picture, over a neutral prompt."""
    return f"a patch got {_range(weights, '.2f')} times what a neutral prompt gives it"


def _range(weights: Weights, form: str) -> str:
    return f"{weights.min():{form}} to {weights.max():{form}}"
