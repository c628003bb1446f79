"""Prepares prompts for one model: turns and images to an `Example`, an `Example` to the decoder's input.

Holds no conversation: `Chat`, question files, attention maps and token counts all start here.
"""

from collections.abc import Sequence
from dataclasses import replace

import mlx.core as mx
import numpy as np

from mlx_llava.checkpoint.folder import Checkpoint
from mlx_llava.errors import LimitError
from mlx_llava.images.image import Image
from mlx_llava.inference.cancel import Cancelled, cancellable, never
from mlx_llava.inference.constraint import Vocabulary
from mlx_llava.inputs import TEXT, Example, ImageCrops
from mlx_llava.prompts.templates import Turn
from mlx_llava.prompts.templates import template as prompt_template

TOWER_BATCH = 8  # images that the vision tower encodes together


class Prompter:
    """A model's prompts; encodes each image once. Use it on the thread that loaded the model."""

    def __init__(self, checkpoint: Checkpoint, template: str | None = None, system: str | None = None) -> None:
        self.checkpoint = checkpoint
        self.template = prompt_template(template or checkpoint.config.template)
        self.system = system
        special_ids = checkpoint.tokenizer.special_ids
        self.stop_ids = checkpoint.stop_ids | {special_ids[s] for s in self.template.stop if s in special_ids}
        self._features: dict[str, mx.array] = {}  # by image identity

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens of an answer."""
        return Vocabulary(self.checkpoint.tokenizer, self.checkpoint.config.text.vocab_size, self.stop_ids)

    def encode(self, turns: Sequence[Turn], images: Sequence[Image]) -> Example:
        """The prompt that asks for the answer of the last turn."""
        config = self.checkpoint.config
        pieces = self.template.answering(turns, self.system)
        crops = [ImageCrops(i.crop(config.image)[None], config.rows_per_crop, i.identity) for i in images]
        return self.checkpoint.tokenizer.encode(pieces, crops)

    def room(self, example: Example, max_tokens: int) -> int:
        """How many of `max_tokens` fit into the context after the prompt; LimitError if none do."""
        limit = self.checkpoint.config.text.max_position_embeddings
        room = limit - len(example.tokens)
        if room < 1:
            raise LimitError(
                f"the prompt is {len(example.tokens)} tokens, the limit {limit}", "Shorten it, or leave an image out."
            )
        return min(room, max_tokens)

    def embed(
        self, example: Example, images: Sequence[Image], start: int = 0, cancelled: Cancelled = never
    ) -> mx.array:
        """The decoder's input from position `start` on, `[T - start, D]`; encodes images that it shows.

        Raises CancelledError if cancelled meanwhile; images that are already encoded stay so.
        """
        model, slots = self.checkpoint.model, example.slots[start:]
        needed = [(span, i) for span, i in zip(example.images, images, strict=True) if span.positions.stop > start]
        features = None
        if needed:
            features = mx.concatenate([self.features(image, cancelled) for _, image in needed])
            slots = np.where(slots == TEXT, TEXT, slots - needed[0][0].first_row)
        embeddings = model.embed(mx.array(example.tokens[start:])[None], mx.array(slots)[None], features)[0]
        mx.eval(embeddings)
        return embeddings

    def encode_images(self, images: Sequence[Image]) -> None:
        """Compute the features of images that are new, several at a time; those named last are kept longest."""
        new = {image.identity: image for image in images if image.identity not in self._features}
        config, model = self.checkpoint.config, self.checkpoint.model
        for start in range(0, len(new), TOWER_BATCH):
            names = list(new)[start : start + TOWER_BATCH]
            crops = np.stack([new[name].crop(config.image) for name in names])
            features = mx.unflatten(model.features(model.vision_states(crops)), 0, (len(names), -1))
            mx.eval(features)
            self._features.update(zip(names, features, strict=True))
        for image in images:
            self._features[image.identity] = self._features.pop(image.identity)

    def trim_features(self, max_bytes: int) -> None:
        """Drop the features of the images encoded first until the others take at most this many bytes."""
        excess = sum(rows.nbytes for rows in self._features.values()) - max_bytes
        while excess > 0:
            excess -= self._features.pop(next(iter(self._features))).nbytes

    def features(self, image: Image, cancelled: Cancelled = never) -> mx.array:
        """The image's features `[rows, D]`, computed once."""
        if image.identity not in self._features:
            config, model = self.checkpoint.config, self.checkpoint.model
            states = model.vision_states(image.crop(config.image)[None])
            features = model.features(cancellable(states, cancelled))
            mx.eval(features)  # before they are stored: if this fails, they can never be computed
            self._features[image.identity] = features
        return self._features[image.identity]


def with_prefix(prompt: Example, ids: Sequence[int]) -> Example:
    """The prompt followed by a forced prefix of its answer."""
    return replace(
        prompt,
        tokens=np.concatenate([prompt.tokens, np.array(ids, prompt.tokens.dtype)]),
        slots=np.concatenate([prompt.slots, np.full(len(ids), TEXT, prompt.slots.dtype)]),
        label_mask=np.concatenate([prompt.label_mask, np.zeros(len(ids), bool)]),
    )
