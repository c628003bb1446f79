"""Numbers as text: sizes, times, token counts, probabilities."""

from collections.abc import Sequence
from typing import Any

from mlx_llava.checkpoint.hub import EMBEDDED
from mlx_llava.engine.messages import AnswerPiece, Choice, Counted, Load, ModelFacts
from mlx_llava.program.text import clean_line, size


def seconds(time: float) -> str:
    return f"{time * 1000:.0f} ms" if time < 1 else f"{time:.1f} s"


def model_name(model: ModelFacts) -> str:
    """Return a short name with bits and adapter."""
    bits = f" {model.bits}-bit" if model.bits else ""
    adapter = f" + {tail(model.adapter)}" if model.adapter else ""
    return f"{tail(model.name)}{bits}{adapter}"


def model_name_of(load: Load) -> str:
    """Return a short name of a model to load."""
    adapter = f" + {tail(load.adapter)}" if load.adapter else ""
    return f"{tail(load.model or EMBEDDED)}{adapter}"


def tail(name: str) -> str:
    """Return the last part of a path or repository."""
    return name.rstrip("/").rsplit("/", 1)[-1] or name


def answer_line(facts: dict[str, Any]) -> str:
    """Summarize an answer on one line, leaving out what is unknown."""
    parts = []
    if facts.get("tokens"):
        parts.append(f"{facts['tokens']} token{'s' * (facts['tokens'] != 1)}")
    if facts.get("tokens_per_second"):
        parts.append(f"{facts['tokens_per_second']:.0f}/s")
    if facts.get("first_token"):
        parts.append(f"first after {seconds(facts['first_token'])}")
    ends = {"cancelled": "stopped", "length": "cut at the token limit"}
    if facts.get("finish") in ends:
        parts.append(ends[facts["finish"]])
    if facts.get("edited"):
        parts.append("edited")
    return " · ".join(parts)


def context_lines(usage: Counted, max_tokens: int) -> list[str]:
    """List the parts of the context."""
    free = usage.context - usage.total
    reserved = max(min(max_tokens, free), 0)
    rows = (
        ("pictures", usage.images),
        ("system prompt", usage.system),
        ("history", usage.history),
        ("draft", usage.draft),
        ("reserved for the answer", reserved),
        ("free", max(free - reserved, 0)),
    )
    lines = [f"{name:24} {number:6d}  {number / usage.context:4.0%}" for name, number in rows]
    if warning := context_warning(usage, max_tokens):
        lines.append(warning)
    return lines


def context_warning(usage: Counted, max_tokens: int) -> str:
    """Warn of a prompt that is too long, or leaves little room for the answer; empty if all is well."""
    free = usage.context - usage.total
    if free < 1:
        remedies = ((usage.images, "switch a picture off"), (usage.history, "start a new chat"))
        remedy = next((remedy for tokens, remedy in remedies if tokens + free > 0), "shorten the question")
        return f"too long: {usage.total} of {usage.context} tokens — {remedy}"
    if free < min(max_tokens, 64):
        return f"only {free} tokens are left for the answer"
    return ""


def model_lines(model: ModelFacts) -> str:
    """Describe a model, a fact on each line."""
    rows = (
        ("model", model.name),
        ("adapter", model.adapter or "none"),
        ("weights", f"{model.bits}-bit" if model.bits else "not quantized"),
        ("memory", f"{size(model.memory)} on {model.device}"),
        ("context", f"{model.context} tokens"),
        ("picture", f"{model.image_tokens} tokens: {model.patches}×{model.patches} patches, {model.fit}"),
        ("template", model.template),
        ("loaded in", seconds(model.seconds)),
    )
    return "\n".join(f"{name:10} {value}" for name, value in rows)


def cost_lines(facts: dict[str, Any]) -> str:
    """Summarize an answer in a narrow column."""
    lines = answer_line(facts).split(" · ")
    return "\n".join([*lines, f"peak {size(facts['peak'])}"] if facts.get("peak") else lines)


def stats_lines(facts: dict[str, Any]) -> list[str]:
    """Describe an answer, a fact on each line."""
    if "first_token" not in facts:
        return [answer_line(facts)]
    image_tokens = facts.get("image_tokens", facts.get("picture_tokens", 0))  # the latter in older histories
    return [
        f"prompt       {facts['prompt_tokens']} tokens, {image_tokens} of pictures, "
        f"{facts['prefilled_tokens']} computed",
        f"first token  {seconds(facts['first_token'])}: vision {seconds(facts['vision'])}, "
        f"prefill {seconds(facts['prefill'])}",
        f"answer       {facts['tokens']} tokens, {facts['tokens_per_second']:.1f}/s, {facts['finish']}",
        f"memory       {size(facts['memory'])}, peak {size(facts['peak'])}",
    ]


def token(text: str) -> str:
    """Make a token readable: control characters as symbols."""
    return clean_line(text.replace("\n", "⏎"), 20) or "·"


def choices(piece: AnswerPiece) -> tuple[Choice, ...]:
    """Return the likely tokens at a place, the most likely first, including the sampled one."""
    tokens = piece.others if piece.token is None or piece.token in piece.others else (*piece.others, piece.token)
    return tuple(sorted(tokens, key=lambda choice: -choice.probability))


def token_lines(tokens: Sequence[AnswerPiece]) -> list[str]:
    """List tokens with their probabilities and alternatives, numbered for /instead."""
    lines = []
    for n, piece in enumerate(tokens, 1):
        if piece.token is None:
            continue
        others = (
            f"{k} {token(choice.text)!r} {choice.probability:.0%}"
            for k, choice in enumerate(choices(piece), 1)
            if choice.id != piece.token.id
        )
        lines.append(f"{n:3d}  {piece.token.probability:4.0%}  {token(piece.token.text)!r:20}  {', '.join(others)}")
    return lines
