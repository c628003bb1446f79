"""Counts, times and memory of an answer: as JSON for programs, as one line for people."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from mlx_llava.images.image import Image
from mlx_llava.images.pixels import Decoding
from mlx_llava.inference.chat import Answer
from mlx_llava.inference.sampling import Sampling
from mlx_llava.program.text import size
from mlx_llava.prompts.tokens import Tokenizer


def report(answer: Answer, sampling: Sampling, load_seconds: float, model: str) -> dict[str, Any]:
    """An answer with its token counts, seconds and bytes of memory."""
    return {
        "schema": 1,
        "text": answer.text,
        "finish": answer.finish,
        "counts": {
            "image": answer.image_tokens,
            "prompt": len(answer.prompt_ids),
            "prefilled": answer.prefilled_tokens,
            "output": len(answer.tokens),
        },
        "timing": {
            "load": load_seconds,
            "vision": answer.vision,
            "prefill": answer.prefill,
            "first_token": answer.first_token,
            "tokens_per_second": answer.tokens_per_second,
        },
        "peak_memory": mx.get_peak_memory(),
        "seed": sampling.seed,
        "model": model,
    }


def images(images: Sequence[Image], decoding: Decoding) -> list[dict[str, Any]]:
    """The images of a question and how their files were decoded."""
    return [{"path": i.name, "sha256": i.identity, "size": list(i.size), "decoding": decoding} for i in images]


def probabilities(answer: Answer, tokenizer: Tokenizer) -> dict[str, Any]:
    """The ids of the prompt, and every token with its alternatives."""

    def entry(token: int, logprob: float | None) -> dict[str, Any]:
        return {"id": token, "text": tokenizer.piece(token), "logprob": logprob}

    tokens = [{**entry(t.id, t.logprob), "top": [entry(*other) for other in t.top]} for t in answer.tokens]
    return {"prompt_ids": answer.prompt_ids, "tokens": tokens}


def stats_line(facts: dict[str, Any]) -> str:
    """The counts and times of a report."""
    counts, timing = facts["counts"], facts["timing"]
    return (
        f"{counts['prompt']} prompt tokens ({counts['image']} of images), {counts['output']} out, {facts['finish']}; "
        f"load {timing['load']:.2f} s, vision {timing['vision']:.2f} s, prefill {timing['prefill']:.2f} s, "
        f"first token {timing['first_token']:.2f} s, {timing['tokens_per_second']:.1f} tokens/s; "
        f"peak {size(facts['peak_memory'])}; seed {facts['seed']}"
    )
