"""What a LLaVA checkpoint is made of, read from its config files.

Understands both dialects: original LLaVA (`mm_*` keys) and llava-hf in its old and its v5 spelling.
A key that would change an answer and is not implemented is an error, never ignored.
"""

from dataclasses import dataclass
from typing import Literal

# openai/clip-vit-large-patch14, preprocessor_config.json
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class PictureConfig:
    """How a picture becomes the vision tower's input."""

    side: int = 336
    """Pixels along an edge of the square the tower sees."""
    fit: Literal["crop", "pad"] = "crop"
    """`crop` the middle of the resized picture (llava-hf), or `pad` it to a square first (LLaVA-1.5)."""
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
