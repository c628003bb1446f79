"""The vocabulary of llava-hf: `<image>` and `<pad>` are tokens with rows in the embedding."""

import json
from dataclasses import dataclass
from typing import Any

from mlx_llava.config import LlavaConfig

IMAGE, PAD = "<image>", "<pad>"
MULTIPLE = 64  # transformers, models/llava/convert_llava_weights_to_hf.py: pad_shape


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer.json, and the ids that go into the configs of processor and model."""

    spec: dict[str, Any]
    image_id: int
    pad_id: int
    num_rows: int

    def special(self, spelling: str) -> int | None:
        """The id of a special token, if there is one."""
        return _special_ids(self.spec).get(spelling)

    def spelling(self, number: int) -> str:
        """The text of a special token."""
        return next(token["content"] for token in self.spec["added_tokens"] if token["id"] == number)


def with_image_token(tokenizer: bytes, config: LlavaConfig) -> Vocabulary:
    """The vocabulary with both tokens; unchanged if it has `<image>` already.

    Original LLaVA has neither: both follow the last id, and the embedding is extended to a multiple of 64, as in
    transformers' own conversion.
    """
    spec = json.loads(tokenizer)
    ids = _special_ids(spec)
    if IMAGE in ids:
        pad = next((ids[name] for name in (PAD, "<unk>") if name in ids), config.eos_token_ids[0])
        return Vocabulary(spec, ids[IMAGE], pad, config.text.vocab_size)
    new = [name for name in (IMAGE, PAD) if name not in ids]
    first = 1 + max([*spec["model"]["vocab"].values(), *ids.values()])
    ids |= {name: first + n for n, name in enumerate(new)}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False) | {"special": True}
    spec["added_tokens"] += [{"id": ids[name], "content": name, **flags} for name in new]
    rows = max(config.text.vocab_size, first + len(new))
    extended = rows if rows == config.text.vocab_size else -(-rows // MULTIPLE) * MULTIPLE
    return Vocabulary(spec, ids[IMAGE], ids[PAD], extended)


def _special_ids(spec: dict[str, Any]) -> dict[str, int]:
    return {token["content"]: token["id"] for token in spec["added_tokens"]}
