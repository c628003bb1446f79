"""mlx-vlm's side. Needs transformers 5.17 or older for pictures: later ones break its processor."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx_vlm import load  # pyright: ignore[reportMissingImports]
from mlx_vlm.generate import PromptCacheState, stream_generate  # pyright: ignore[reportMissingImports]
from mlx_vlm.generate.ar import GenerationBatch, generate_step  # pyright: ignore[reportMissingImports]
from mlx_vlm.models.cache import make_prompt_cache  # pyright: ignore[reportMissingImports]
from mlx_vlm.prompt_utils import apply_chat_template  # pyright: ignore[reportMissingImports]
from mlx_vlm.trainer.common.model import prepare_model_for_training  # pyright: ignore[reportMissingImports]
from mlx_vlm.trainer.vlm.config import VLMTrainingArgs  # pyright: ignore[reportMissingImports]
from mlx_vlm.trainer.vlm.sft.runtime import train_vlm  # pyright: ignore[reportMissingImports]
from mlx_vlm.utils import load_model  # pyright: ignore[reportMissingImports]
from mlx_vlm.vision_cache import VisionFeatureCache  # pyright: ignore[reportMissingImports]
from sides import lesson
from sides.timing import between, clock, fastest, fill, stamps


def _load(folder: str, bits: int | None) -> Any:
    """The model; packed as its converter packs it, the text part alone."""
    model = load_model(Path(folder), lazy=True)
    if bits:
        nn.quantize(model.language_model, 64, bits)
    mx.eval(model.parameters())
    return model


def loading(folder: str, bits: int | None) -> dict[str, Any]:
    """Seconds from the folder to weights in memory."""
    return {"seconds": fastest(lambda: _load(folder, bits), 1)}


def tower(folder: str, bits: int | None, blocks: int, repeats: int) -> dict[str, Any]:
    """Seconds from one picture's pixels to its features, through so many of the tower's blocks."""
    model = _load(folder, bits)
    encoder = model.vision_tower.vision_model.encoder
    encoder.layers = encoder.layers[: blocks + 1]  # the last one is never evaluated
    ids = mx.array([[model.config.image_token_index] * 576])
    pixels = mx.random.normal((1, 3, 336, 336))
    mx.eval(pixels)
    return {"seconds": fastest(lambda: mx.eval(model.get_input_embeddings(ids, pixels).inputs_embeds), repeats)}


def prefill(folder: str, bits: int | None, rows: int, repeats: int) -> dict[str, Any]:
    """Seconds for a prompt of `rows` positions, up to the logits of the last."""
    model = _load(folder, bits)
    ids = mx.random.randint(0, 500, (1, rows))
    return {"seconds": fastest(lambda: list(generate_step(ids, model, None, None, max_tokens=0)), repeats)}


def decode(folder: str, bits: int | None, batch: int, tokens: int) -> dict[str, Any]:
    """Seconds for one token of each answer, after a long prompt."""
    model = _load(folder, bits)
    layers = fill(make_prompt_cache(model.language_model), batch)
    if batch == 1:
        steps = generate_step(mx.array([[5]]), model, None, None, max_tokens=tokens, prompt_cache=layers)
        return {"seconds": between(stamps(steps, tokens))}
    generation = GenerationBatch(
        model.language_model,
        list(range(batch)),
        mx.array([5] * batch),
        layers,
        lambda logprobs: mx.argmax(logprobs, axis=-1),
        lambda token: False,
        [tokens + 1] * batch,
        greedy_sampling=True,
    )
    generation.compute_logprobs = False  # as its own batch_generate
    return {"seconds": between(stamps(iter(generation.next, []), tokens))}


def second_question(folder: str, bits: int | None, image: str, questions: list[str], tokens: int) -> dict[str, Any]:
    """What each of several questions about a picture takes, asked as its `mlx_vlm.chat` asks."""
    model, processor = load(folder)
    kept = {"vision_cache": VisionFeatureCache(), "prompt_cache_state": PromptCacheState()}
    history, asked = [], []
    for question in questions:
        began = clock()
        history.append({"role": "user", "content": [{"type": "text", "text": question}]})
        prompt = apply_chat_template(processor, model.config, history, num_images=1)
        steps = stream_generate(model, processor, prompt, image=[image], max_tokens=tokens, temperature=0.0, **kept)
        first, pieces = 0.0, []
        for piece in steps:
            first = first or clock() - began
            pieces.append(piece)
        last = pieces[-1]
        asked.append(
            {"prompt": last.prompt_tokens, "prefilled": last.prompt_tokens - last.cached_tokens, "first": first}
        )
        history.append({"role": "assistant", "content": [{"type": "text", "text": "".join(p.text for p in pieces)}]})
    return {"seconds": asked[-1]["first"], "asked": asked}


def train_step(folder: str, bits: int | None, rank: int, steps: int, recompute: bool) -> dict[str, Any]:
    """Seconds of a step of its own trainer; QLoRA packs the tower and the projector too."""
    model = load_model(Path(folder))
    lora = {"lora_rank": rank, "lora_alpha": 2.0 * rank, "lora_dropout": 0.0}
    prepare_model_for_training(model, **lora, quantization_bits=bits, verbose=False)
    ids, mask = mx.array(lesson.tokens()), mx.array(lesson.answers().tolist())
    batch = {
        "input_ids": ids,
        "attention_mask": mx.ones_like(ids),
        "completion_mask": mask.astype(mx.int32),
        "pixel_values": mx.array(lesson.pixels()).transpose(0, 3, 1, 2),
    }
    mx.eval(model.parameters(), batch)
    times: list[float] = []

    def batches(*_: object, **__: object) -> Iterator[dict[str, mx.array]]:
        while True:
            times.append(clock())
            yield batch

    losses: list[float] = []

    class Watch:
        def on_train_loss_report(self, metrics: dict[str, Any]) -> None:
            losses.append(metrics["train_loss"])

    mx.reset_peak_memory()
    with TemporaryDirectory() as aside:
        args = VLMTrainingArgs(
            iters=steps + 1,
            steps_per_report=1,
            steps_per_eval=None,
            steps_per_save=10**6,
            adapter_file=f"{aside}/adapters.safetensors",
            train_on_completions=True,
            grad_checkpoint=recompute,
        )
        train_vlm(model, optim.AdamW(lesson.RATE), [0], args=args, iterate_batches=batches, training_callback=Watch())
    return lesson.told(times, losses[0], mx.get_peak_memory())
