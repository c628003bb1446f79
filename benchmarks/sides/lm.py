"""mlx-lm's side: only the text model, which it loads from a LLaVA checkpoint."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.generate import BatchGenerator, generate_step
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model
from sides.noise import fill
from sides.timing import between, clock, prefilled, stamps, typical


def _load(folder: str, bits: int | None) -> nn.Module:
    model, _ = load_model(Path(folder), lazy=True)
    if bits:
        nn.quantize(model, 64, bits)
    mx.eval(model.parameters())
    return model


def loading(folder: str, bits: int | None) -> dict[str, Any]:
    """Seconds to load the weights into memory."""
    return {"seconds": typical(lambda: _load(folder, bits), 1)}


def prefill(folder: str, bits: int | None, rows: int) -> dict[str, Any]:
    """Seconds to prefill `rows` positions, up to the logits of the last."""
    model = _load(folder, bits)
    ids = mx.random.randint(0, 500, (rows,))
    return {"seconds": prefilled(lambda rows: list(generate_step(ids[:rows], model, max_tokens=0)), rows)}


def decode(folder: str, bits: int | None, batches: list[tuple[int, int]]) -> dict[str, Any]:
    """Seconds per decoding step after a long prompt, for each batch size and number of tokens."""
    model = _load(folder, bits)
    return {"steps": [_step(model, batch, tokens) for batch, tokens in batches]}


def _step(model: nn.Module, batch: int, tokens: int) -> float:
    if batch == 1:
        steps = generate_step(mx.array([5]), model, max_tokens=tokens, prompt_cache=fill(make_prompt_cache(model)))
        return between(stamps(steps, tokens))
    caches = [fill(make_prompt_cache(model)) for _ in range(batch)]
    generator = BatchGenerator(model)
    generator.insert([[5]] * batch, max_tokens=[tokens] * batch, caches=caches)
    times = []
    while generator.next_generated():
        times.append(clock())
    return between(times)
