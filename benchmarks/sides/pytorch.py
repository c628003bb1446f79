"""torch and transformers' side."""

from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from sides import small_tower
from sides.timing import between, clock
from transformers import CLIPVisionConfig, CLIPVisionModel


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
