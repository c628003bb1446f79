"""torch, transformers and peft's side: adapters on every linear layer of the text model."""

from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from peft import LoraConfig, get_peft_model  # pyright: ignore[reportMissingImports]
from sides import conversation
from sides.timing import clock
from transformers import LlavaForConditionalGeneration

TARGETS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


def train_step(folder: str, bits: int | None, rank: int, steps: int, recompute: bool) -> dict[str, Any]:
    """Seconds of a LoRA step."""
    model: Any = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    lora = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=TARGETS)
    model = get_peft_model(model, lora)  # pyright: ignore[reportArgumentType]
    model.train()
    if recompute:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=conversation.RATE)
    ids = torch.tensor(conversation.tokens()).long()
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.tensor(conversation.pixels()).permute(0, 3, 1, 2).contiguous(),
        "labels": torch.where(torch.tensor(conversation.answers()), ids, -100),
    }
    times, losses = [clock()], []
    for _ in range(steps):
        loss = model(**inputs).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss))
        times.append(clock())
    return conversation.report(times, losses[0])
