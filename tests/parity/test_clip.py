"""CLIP whole, text tower and InfoNCE included, against transformers in float32."""

import mlx.core as mx
import numpy as np
import pytest
import torch
from mlx.utils import tree_flatten
from transformers import CLIPConfig, CLIPModel

from mlx_llava.config import ClipTextConfig, VisionConfig
from mlx_llava.models.clip import Clip, info_nce

VISION = VisionConfig(
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=3,
    num_attention_heads=4,
    image_size=28,
    patch_size=7,
    hidden_act="quick_gelu",
    layer_norm_eps=1e-5,
)
TEXT = ClipTextConfig(
    vocab_size=50,
    max_position_embeddings=16,
    hidden_size=24,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=3,
    hidden_act="quick_gelu",
    layer_norm_eps=1e-5,
)
WIDTH, END = 20, 49
CONVOLUTION = "vision_model.embeddings.patch_embedding.weight"  # [out, in, h, w] in torch, [out, h, w, in] in MLX


@pytest.fixture(scope="module")
def theirs() -> CLIPModel:
    torch.manual_seed(3)
    text = {**vars(TEXT), "eos_token_id": END, "bos_token_id": 48, "pad_token_id": 0}
    model = CLIPModel(CLIPConfig(vision_config=vars(VISION), text_config=text, projection_dim=WIDTH))
    for parameter in model.parameters():  # its own start is so small that every picture looks the same
        torch.nn.init.normal_(parameter, std=0.2) if parameter.dim() else None
    return model.eval()


@pytest.fixture(scope="module")
def ours(theirs: CLIPModel) -> Clip:
    model = Clip(VISION, TEXT, WIDTH)
    model.load_weights([(name, as_ours(name, x.detach())) for name, x in theirs.named_parameters()])  # strict
    return model


def as_ours(name: str, x: torch.Tensor) -> mx.array:
    return mx.array((x.permute(0, 2, 3, 1) if name == CONVOLUTION else x).contiguous().numpy())


@pytest.fixture(scope="module")
def batch() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    chance = np.random.default_rng(0)
    pixels = chance.normal(size=(5, 28, 28, 3)).astype(np.float32)
    ends = np.array([3, 15, 7, 1, 9])
    tokens = chance.integers(1, 48, (5, 16))
    tokens[np.arange(5), ends] = END
    return pixels, tokens, ends


def loss_of(model: Clip, batch: tuple[np.ndarray, np.ndarray, np.ndarray]) -> tuple[mx.array, mx.array]:
    pixels, tokens, ends = map(mx.array, batch)
    images = model.project(model.vision_model(pixels, (-1,))[0][:, 0])
    similarity = model.similarity(images, model.texts(tokens, ends))
    return info_nce(similarity), similarity


def test_similarity_loss_and_gradients_equal_those_of_transformers(
    theirs: CLIPModel, ours: Clip, batch: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    pixels, tokens, _ = batch
    images = torch.tensor(pixels).permute(0, 3, 1, 2)
    wanted = theirs(input_ids=torch.tensor(tokens), pixel_values=images, return_loss=True)
    wanted.loss.backward()

    def loss(weights: dict) -> tuple[mx.array, mx.array]:
        ours.update(weights)
        return loss_of(ours, batch)

    weights = ours.trainable_parameters()
    (found, similarity), gradients = mx.value_and_grad(loss)(weights)
    ours.update(weights)

    np.testing.assert_allclose(similarity, wanted.logits_per_image.detach(), atol=1e-4)  # fp32 sums of size 14
    assert abs(found.item() - wanted.loss.item()) < 1e-5
    flat = dict(tree_flatten(gradients))
    for name, parameter in theirs.named_parameters():
        assert parameter.grad is not None
        gradient = as_ours(name, parameter.grad)
        difference, largest = (float(mx.abs(x).max()) for x in (flat[name] - gradient, gradient))
        assert difference <= 1e-5 * max(largest, 1e-3), name  # as in test_training.py


def test_what_follows_the_end_of_a_text_changes_nothing(
    ours: Clip, batch: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    _, tokens, ends = batch
    changed = tokens.copy()
    changed[0, 4:] = 7
    before, after = (ours.texts(mx.array(t), mx.array(ends))[0] for t in (tokens, changed))
    assert mx.array_equal(before, after)
