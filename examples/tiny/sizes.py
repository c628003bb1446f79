"""Sizes of the small LLaVA: 3.86 million parameters in all."""

from mlx_llava.config import ClipTextConfig, ImageConfig, LlavaConfig, RopeConfig, TextConfig, VisionConfig

VISION = VisionConfig(
    hidden_size=128,
    intermediate_size=512,
    num_hidden_layers=5,
    num_attention_heads=4,
    image_size=96,
    patch_size=12,
    hidden_act="quick_gelu",
    layer_norm_eps=1e-5,
)
IMAGE = ImageConfig(side=VISION.image_size, fit="pad")
CAPTION = ClipTextConfig(
    vocab_size=640,
    max_position_embeddings=96,
    hidden_size=128,
    intermediate_size=512,
    num_hidden_layers=2,
    num_attention_heads=4,
    hidden_act="quick_gelu",
    layer_norm_eps=1e-5,
)
TEXT = TextConfig(
    model_type="llama",
    vocab_size=640,
    hidden_size=224,
    intermediate_size=608,
    num_hidden_layers=4,
    num_attention_heads=7,
    num_key_value_heads=7,
    head_dim=32,
    max_position_embeddings=512,
    rms_norm_eps=1e-5,
    attention_bias=False,
    mlp_bias=False,
    sliding_window=None,
    tie_word_embeddings=False,
    rope=RopeConfig(),
)
LLAVA = LlavaConfig(vision=VISION, text=TEXT, image_token_id=638, image=IMAGE)
EMBEDDING = 128  # width of CLIP's joint embedding space
