"""Numbers as a person reads them."""

from collections.abc import Sequence
from typing import Any

from mlx_llava.checkpoint.hub import EMBEDDED
from mlx_llava.engine.messages import AnswerPiece, Choice, Counted, Load, ModelFacts
from mlx_llava.program.text import clean_line

GIGA = 1e9


def memory(size: float) -> str:
    """Bytes."""
    return f"{size / GIGA:.1f} GB" if size >= 0.95 * GIGA else f"{size / 1e6:.0f} MB"


def seconds(time: float) -> str:
    """A short time."""
    return f"{time * 1000:.0f} ms" if time < 1 else f"{time:.1f} s"


def model_name(model: ModelFacts) -> str:
    """A model in a few words."""
    bits = f" {model.bits}-bit" if model.bits else ""
    adapter = f" + {tail(model.adapter)}" if model.adapter else ""
    return f"{tail(model.name)}{bits}{adapter}"


def model_name_of(load: Load) -> str:
    """A model that is not there yet, in a few words."""
    adapter = f" + {tail(load.adapter)}" if load.adapter else ""
    return f"{tail(load.model or EMBEDDED)}{adapter}"


def tail(name: str) -> str:
    """The last part of a path or repository."""
    return name.rstrip("/").rsplit("/", 1)[-1] or name


def answer_line(facts: dict[str, Any]) -> str:
    """What an answer took, in a line; parts that are not known are left out."""
    parts = []
    if facts.get("tokens"):
        parts.append(f"{facts['tokens']} token{'s' * (facts['tokens'] != 1)}")
    if facts.get("tokens_per_second"):
        parts.append(f"{facts['tokens_per_second']:.0f}/s")
    if facts.get("first_token"):
        parts.append(f"first after {seconds(facts['first_token'])}")
    ends = {"cancelled": "stopped", "length": "cut at the limit of tokens"}
    if facts.get("finish") in ends:
        parts.append(ends[facts["finish"]])
    if facts.get("edited"):
        parts.append("edited")
    return " · ".join(parts)


def context_lines(counted: Counted, max_tokens: int) -> list[str]:
    """The parts of the context, a line each."""
    free = counted.context - counted.total
    reserved = max(min(max_tokens, free), 0)
    rows = (
        ("pictures", counted.images),
        ("system prompt", counted.system),
        ("history", counted.history),
        ("draft", counted.draft),
        ("reserved for the answer", reserved),
        ("free", max(free - reserved, 0)),
    )
    lines = [f"{name:24} {number:6d}  {number / counted.context:4.0%}" for name, number in rows]
    if warning := context_warning(counted, max_tokens):
        lines.append(warning)
    return lines


def context_warning(counted: Counted, max_tokens: int) -> str:
    """What is wrong with the size of a prompt, if anything."""
    free = counted.context - counted.total
    if free < 1:
        enough = ((counted.images, "switch a picture off"), (counted.history, "begin a new chat"))
        advice = next((advice for tokens, advice in enough if tokens + free > 0), "ask in fewer words")
        return f"too long: {counted.total} of {counted.context} tokens — {advice}"
    if free < min(max_tokens, 64):
        return f"only {free} tokens are left for the answer"
    return ""


def model_lines(model: ModelFacts) -> str:
    """What there is to know of a model."""
    rows = (
        ("model", model.name),
        ("adapter", model.adapter or "none"),
        ("weights", f"{model.bits}-bit" if model.bits else "not packed"),
        ("memory", f"{memory(model.memory)} on {model.device}"),
        ("context", f"{model.context} tokens"),
        ("picture", f"{model.image_tokens} tokens: {model.patches}×{model.patches} patches, {model.fit}"),
        ("template", model.template),
        ("loaded in", seconds(model.seconds)),
    )
    return "\n".join(f"{name:10} {value}" for name, value in rows)


def cost_lines(facts: dict[str, Any]) -> str:
    """What an answer took, for a narrow column."""
    lines = answer_line(facts).split(" · ")
    return "\n".join([*lines, f"at most {memory(facts['peak'])}"] if facts.get("peak") else lines)


def stats_lines(facts: dict[str, Any]) -> list[str]:
    """What an answer took, a line for each fact."""
    if "first_token" not in facts:
        return [answer_line(facts)]
    image_tokens = facts.get("image_tokens", facts.get("picture_tokens", 0))  # the second in older histories
    return [
        f"prompt       {facts['prompt_tokens']} tokens, {image_tokens} of pictures; "
        f"{facts['prefilled_tokens']} computed anew",
        f"first token  {seconds(facts['first_token'])}: vision {seconds(facts['vision'])}, "
        f"prefill {seconds(facts['prefill'])}",
        f"answer       {facts['tokens']} tokens, {facts['tokens_per_second']:.1f}/s, {facts['finish']}",
        f"memory       {memory(facts['memory'])}, at most {memory(facts['peak'])}",
    ]


def token(text: str) -> str:
    """A token as it reads: the space that it begins with, and what has no shape, in signs."""
    return clean_line(text.replace("\n", "⏎"), 20) or "·"


def choices(said: AnswerPiece) -> tuple[Choice, ...]:
    """What was likely at a place, the likeliest first; what was said is among it."""
    found = said.others if said.token is None or said.token in said.others else (*said.others, said.token)
    return tuple(sorted(found, key=lambda choice: -choice.probability))


def token_lines(tokens: Sequence[AnswerPiece]) -> list[str]:
    """Every token with its probability, and what else was likely, both numbered for /instead."""
    lines = []
    for n, said in enumerate(tokens, 1):
        if said.token is None:
            continue
        others = (
            f"{k} {token(choice.text)!r} {choice.probability:.0%}"
            for k, choice in enumerate(choices(said), 1)
            if choice.id != said.token.id
        )
        lines.append(f"{n:3d}  {said.token.probability:4.0%}  {token(said.token.text)!r:20}  {', '.join(others)}")
    return lines
