"""What a LLaVA is made of: its three parts, and how text and images become its input.

Knows no file format: `checkpoint/config_json/` reads these from a config.json.
"""

from dataclasses import dataclass, field
from typing import Literal

Dtype = Literal["float16", "bfloat16", "float32"]
Fit = Literal["crop", "pad"]
FITS: tuple[Fit, ...] = ("crop", "pad")
# openai/clip-vit-large-patch14, preprocessor_config.json
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class ImageConfig:
    """Preprocessing of an image for the vision tower."""

    side: int = 336
    """Pixels along an edge of the tower's square input."""
    fit: Fit = "crop"
    """`crop` the center of the resized image (llava-hf), or `pad` the image to a square first (LLaVA-1.5)."""
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD


@dataclass(frozen=True)
class VisionConfig:
    """The CLIP vision tower."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    image_size: int
    patch_size: int
    hidden_act: str
    layer_norm_eps: float

    @property
    def num_patches(self) -> int:
        """Patches of one crop."""
        return (self.image_size // self.patch_size) ** 2


@dataclass(frozen=True)
class ClipTextConfig:
    """CLIP's text tower, which trains a vision tower; LLaVA does not use it."""

    vocab_size: int
    max_position_embeddings: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    hidden_act: str
    layer_norm_eps: float


@dataclass(frozen=True)
class RopeConfig:
    """Rotary position embedding: plain, or stretched as `linear` or `llama3`."""

    rope_type: str = "default"
    rope_theta: float = 10000.0
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 8192


@dataclass(frozen=True)
class TextConfig:
    """The language model: LLaMA (and so Vicuna) or Mistral."""

    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    rms_norm_eps: float
    attention_bias: bool
    mlp_bias: bool
    sliding_window: int | None
    tie_word_embeddings: bool
    rope: RopeConfig


@dataclass(frozen=True)
class LlavaConfig:
    """A LLaVA: its three parts, and how text and images become its input."""

    vision: VisionConfig
    text: TextConfig
    feature_layers: tuple[int, ...] = (-2,)
    """Indices into the tower's hidden states; the projector reads these states concatenated."""
    keep_class_token: bool = False
    projector_depth: int = 2
    projector_act: str = "gelu"
    projector_bias: bool = True
    image_token_id: int = 0
    """Token id at image positions; without such a token in the vocabulary, any id works."""
    eos_token_ids: tuple[int, ...] = (2,)
    image: ImageConfig = field(default_factory=ImageConfig)
    template: str = "vicuna_v1"
    restart_after_image: bool = False
    """Tokenize the text after an image as the start of a string, as original LLaVA does."""

    @property
    def rows_per_crop(self) -> int:
        """Image features of one crop, which is the whole image."""
        return self.vision.num_patches + self.keep_class_token

    @property
    def picture(self) -> ImageConfig:
        """The name of `image` in version 0.1."""
        return self.image
