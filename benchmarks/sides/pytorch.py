"""torch and transformers' side."""

from collections.abc import Iterator
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from sides import small_tower
from sides.timing import HEAD_DIM, KV_HEADS, LENGTH, between, clock, prefilled, stamps, typical
from transformers import CLIPVisionConfig, CLIPVisionModel, DynamicCache, LlavaForConditionalGeneration

DTYPES = {None: torch.float32, 16: torch.bfloat16}


def _load(folder: str, bits: int | None) -> Any:
    return LlavaForConditionalGeneration.from_pretrained(folder, dtype=DTYPES[bits]).eval()


@torch.inference_mode()
def tower(folder: str, bits: int | None, blocks: int, repeats: int) -> dict[str, Any]:
    """Seconds from an image's pixels to its features, through the whole tower: transformers runs every block."""
    model, pixels = _load(folder, bits).model, torch.randn(1, 3, 336, 336, dtype=DTYPES[bits])
    assert blocks == model.config.vision_config.num_hidden_layers
    return {"seconds": typical(lambda: model.get_image_features(pixel_values=pixels), repeats)}


@torch.inference_mode()
def prefill(folder: str, bits: int | None, rows: int) -> dict[str, Any]:
    """Seconds to prefill `rows` positions, up to the logits of the last."""
    model, ids = _load(folder, bits), torch.randint(0, 500, (1, rows))
    return {"seconds": prefilled(lambda rows: model(input_ids=ids[:, :rows], use_cache=True, logits_to_keep=1), rows)}


@torch.inference_mode()
def decode(folder: str, bits: int | None, batches: list[tuple[int, int]]) -> dict[str, Any]:
    """Seconds per decoding step after a long prompt, for each batch size and number of tokens."""
    model = _load(folder, bits)
    return {"steps": [between(stamps(_steps(model, batch), tokens)) for batch, tokens in batches]}


def _steps(model: Any, batch: int) -> Iterator[torch.Tensor]:
    cache, shape = DynamicCache(config=model.config.text_config), (batch, KV_HEADS, LENGTH, HEAD_DIM)
    for layer in range(model.config.text_config.num_hidden_layers):
        cache.update(torch.randn(shape, dtype=model.dtype), torch.randn(shape, dtype=model.dtype), layer)
    tokens = torch.full((batch, 1), 5)
    while True:
        tokens = model(input_ids=tokens, past_key_values=cache, use_cache=True).logits.argmax(-1)
        yield tokens


class SmallTower(torch.nn.Module):
    """CLIP's vision tower with a linear head on each patch."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = CLIPVisionModel(CLIPVisionConfig(**small_tower.CONFIG))  # pyright: ignore[reportArgumentType]
        self.head = torch.nn.Linear(small_tower.CONFIG["hidden_size"], small_tower.CLASSES, bias=False)
        named = {name: tuple(x.shape) for name, x in self.tower.named_parameters()}
        weights = {name: torch.tensor(small_tower.weight(name, shape)) for name, shape in named.items()}
        self.tower.load_state_dict(weights, strict=False)  # all but position_ids, which is a buffer
        head = small_tower.weight(small_tower.HEAD, tuple(self.head.weight.shape))
        self.head.load_state_dict({"weight": torch.tensor(head)})

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.head(self.tower(pixels).last_hidden_state[:, 1:])


def tower_step(steps: int) -> dict[str, Any]:
    """Seconds of a step that trains the small tower."""
    model = SmallTower().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=small_tower.RATE, weight_decay=0.0)
    pixels = torch.tensor(small_tower.pixels()).permute(0, 3, 1, 2).contiguous()
    labels = torch.tensor(small_tower.labels()).long()
    times, losses = [clock()], []
    for _ in range(steps):
        loss = torch.nn.functional.cross_entropy(model(pixels).flatten(0, 1), labels.flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        times.append(clock())
    return {"seconds": between(times[1:]), "loss": losses[0]}
