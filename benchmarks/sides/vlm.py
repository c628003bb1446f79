"""mlx-vlm's side. Needs transformers 5.17 or older: later versions break its image processor."""

from collections.abc import Iterator
from functools import partial
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
from sides import conversation
from sides.noise import fill
from sides.timing import between, clock, prefilled, stamps, typical


def _load(folder: str, bits: int | None) -> Any:
    """The model; with `bits`, quantized like its converter does: only the text model."""
    model = load_model(Path(folder), lazy=True)
    if bits:
        nn.quantize(model.language_model, 64, bits)
    mx.eval(model.parameters())
    return model


def loading(folder: str, bits: int | None) -> dict[str, Any]:
    """Seconds to load the weights into memory."""
    return {"seconds": typical(lambda: _load(folder, bits), 1)}


def tower(folder: str, bits: int | None, blocks: int, repeats: int) -> dict[str, Any]:
    """Seconds from an image's pixels to its features, through `blocks` blocks of the tower."""
    model = _load(folder, bits)
    encoder = model.vision_tower.vision_model.encoder
    encoder.layers = encoder.layers[: blocks + 1]  # the last one is never evaluated
    ids = mx.array([[model.config.image_token_index] * 576])
    pixels = mx.random.normal((1, 3, 336, 336))
    mx.eval(pixels)
    return {"seconds": typical(lambda: mx.eval(model.get_input_embeddings(ids, pixels).inputs_embeds), repeats)}


def prefill(folder: str, bits: int | None, rows: int) -> dict[str, Any]:
    """Seconds to prefill `rows` positions, up to the logits of the last."""
    model = _load(folder, bits)
    ids = mx.random.randint(0, 500, (1, rows))
    work = partial(generate_step, model=model, pixel_values=None, mask=None, max_tokens=0)
    return {"seconds": prefilled(lambda rows: list(work(ids[:, :rows])), rows)}


def decode(folder: str, bits: int | None, batches: list[tuple[int, int]]) -> dict[str, Any]:
    """Seconds per decoding step after a long prompt, for each batch size and number of tokens."""
    model = _load(folder, bits)
    return {"steps": [_step(model, batch, tokens) for batch, tokens in batches]}


def _step(model: Any, batch: int, tokens: int) -> float:
    layers = fill(make_prompt_cache(model.language_model), batch)
    if batch == 1:
        steps = generate_step(mx.array([[5]]), model, None, None, max_tokens=tokens, prompt_cache=layers)
        return between(stamps(steps, tokens))
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
    generation.compute_logprobs = False  # like its own batch_generate
    return between(stamps(iter(generation.next, []), tokens))


def second_question(folder: str, bits: int | None, image: str, questions: list[str], tokens: int) -> dict[str, Any]:
    """Prompt tokens, prefilled tokens and seconds to the first token of each question, asked like in `mlx_vlm.chat`."""
    model, processor = load(folder)
    caches = {"vision_cache": VisionFeatureCache(), "prompt_cache_state": PromptCacheState()}
    history, results = [], []
    for question in questions:
        start = clock()
        history.append({"role": "user", "content": [{"type": "text", "text": question}]})
        prompt = apply_chat_template(processor, model.config, history, num_images=1)
        steps = stream_generate(model, processor, prompt, image=[image], max_tokens=tokens, temperature=0.0, **caches)
        first, pieces = 0.0, []
        for piece in steps:
            first = first or clock() - start
            pieces.append(piece)
        last = pieces[-1]
        results.append(
            {"prompt": last.prompt_tokens, "prefilled": last.prompt_tokens - last.cached_tokens, "first": first}
        )
        history.append({"role": "assistant", "content": [{"type": "text", "text": "".join(p.text for p in pieces)}]})
    return {"seconds": results[-1]["first"], "questions": results}


def train_step(folder: str, bits: int | None, rank: int, steps: int, recompute: bool) -> dict[str, Any]:
    """Seconds of a step of its own trainer; its QLoRA quantizes the tower and the projector too."""
    model = load_model(Path(folder))
    lora = {"lora_rank": rank, "lora_alpha": 2.0 * rank, "lora_dropout": 0.0}
    prepare_model_for_training(model, **lora, quantization_bits=bits, verbose=False)
    ids, mask = mx.array(conversation.tokens()), mx.array(conversation.answers().tolist())
    batch = {
        "input_ids": ids,
        "attention_mask": mx.ones_like(ids),
        "completion_mask": mask.astype(mx.int32),
        "pixel_values": mx.array(conversation.pixels()).transpose(0, 3, 1, 2),
    }
    mx.eval(model.parameters(), batch)
    times: list[float] = []

    def batches(*_: object, **__: object) -> Iterator[dict[str, mx.array]]:
        while True:
            times.append(clock())
            yield batch

    losses: list[float] = []

    class LossRecorder:
        def on_train_loss_report(self, metrics: dict[str, Any]) -> None:
            losses.append(metrics["train_loss"])

    mx.reset_peak_memory()
    with TemporaryDirectory() as adapters:
        args = VLMTrainingArgs(
            iters=steps + 1,
            steps_per_report=1,
            steps_per_eval=None,
            steps_per_save=10**6,
            adapter_file=f"{adapters}/adapters.safetensors",
            train_on_completions=True,
            grad_checkpoint=recompute,
        )
        optimizer, recorder = optim.AdamW(conversation.RATE), LossRecorder()
        train_vlm(model, optimizer, [0], args=args, iterate_batches=batches, training_callback=recorder)
    return conversation.report(times, losses[0], mx.get_peak_memory())
