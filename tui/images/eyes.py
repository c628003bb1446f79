"""What the model sees of an image: a square, cut into patches, each a token."""

from dataclasses import replace
from typing import TYPE_CHECKING

from mlx_llava.config import CLIP_STD, Fit, ImageConfig
from mlx_llava.engine.messages import ModelFacts

if TYPE_CHECKING:
    from PIL import Image


def square(image: "Image.Image", model: ModelFacts, fit: Fit | None) -> "Image.Image":
    """The image as the vision tower gets it, computed by the code that feeds the tower."""
    from mlx_llava.images.pixels import crop, to_image

    config = ImageConfig(side=model.side, fit=fit or model.fit, mean=model.mean, std=CLIP_STD)
    return to_image(crop(image, config), config)


def loss(size: tuple[int, int], fit: Fit) -> str:
    """How much of an image of this size is cropped or padded to make it square."""
    share = 1 - min(size) / max(size)
    if share == 0:
        return "it is square already"
    if fit == "pad":
        return f"{share:.0%} of it is padding"
    where = "left and right" if size[0] > size[1] else "top and bottom"
    return f"{share:.0%} is cut off, {where}"


def tokens(model: ModelFacts, start: int | None) -> str:
    """The number of patches and tokens, and their positions in the prompt from `start`."""
    count = f"{model.patches}×{model.patches} patches, {model.image_tokens} tokens"
    return count if start is None else f"{count}: {start} to {start + model.image_tokens - 1}"


def with_fit(model: ModelFacts, fit: Fit | None) -> ModelFacts:
    """The model with another way to make images square; None keeps its own."""
    return replace(model, fit=fit or model.fit)
