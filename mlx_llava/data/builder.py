"""Records to examples: the prompt with its label mask, and the images as the vision tower sees them.

Nothing is truncated: a record that is too long, or has no answer to train on, is refused.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlx_llava.config import ImageConfig, LlavaConfig
from mlx_llava.data.lengths import Lengths
from mlx_llava.data.records import Record
from mlx_llava.errors import LlavaError, PromptError, RecordError
from mlx_llava.images.pixels import crop, open_image
from mlx_llava.inputs import Example, ImageCrops
from mlx_llava.prompts.templates import IMAGE, Piece, Template, Turn, template
from mlx_llava.prompts.tokens import Tokenizer

CLOSED = np.zeros((0, 0, 3), np.float32)  # the crop of an image that is not opened


@dataclass(frozen=True)
class ExampleBuilder:
    """Builds examples for one model."""

    template: Template
    tokenizer: Tokenizer
    image: ImageConfig
    rows_per_image: int
    images: Path | None
    """Folder of the images."""
    max_tokens: int
    images_first: bool = False
    """Move images to the front of their question, as LLaVA's training does."""

    @classmethod
    def of(cls, config: LlavaConfig, tokenizer: Tokenizer, images: Path | None) -> "ExampleBuilder":
        """A builder for the model of a config, with the model's context as the limit of tokens."""
        limit = config.text.max_position_embeddings
        return cls(template(config.template), tokenizer, config.image, config.rows_per_crop, images, limit)

    def example(self, record: Record, *, open_images: bool = True) -> Example:
        """Build the example of a record; errors name the record.

        Args:
            open_images: if false, leave the image files closed; the example's crops are empty.
        """
        try:
            crops = self._crops(record) if open_images else [CLOSED] * len(record.images)
            example = self._encode(record, crops)
        except LlavaError as error:
            raise type(error)(f"{record.where}: {error.problem}", error.advice) from error
        if len(example.tokens) > self.max_tokens:
            problem, advice = self._too_long(len(example.tokens))
            raise RecordError(f"{record.where}: {problem}", f"{advice} --leave-out skips the record.")
        return example

    def num_tokens(self, record: Record) -> int:
        """The number of tokens of a record, image tokens included, without opening its images."""
        return len(self._encode(record, [CLOSED] * len(record.images)).tokens)

    def fault(self, record: Record) -> tuple[str, str] | None:
        """Why a record cannot become an example, and what to do, without opening its images; None if it can."""
        try:
            fits = self._lengths.fits(self._pieces(record), self.max_tokens)
            tokens = 0 if fits else self.num_tokens(record)
        except PromptError as error:
            return error.problem, error.advice
        return self._too_long(tokens) if tokens > self.max_tokens else None

    def settings(self) -> tuple[object, ...]:
        """Everything that decides which records have a fault; its repr is the same in other processes."""
        limits = self.rows_per_image, self.max_tokens, self.images_first
        return (self.template, self.tokenizer.fingerprint(), *limits)

    def _too_long(self, tokens: int) -> tuple[str, str]:
        return f"{tokens} tokens, the limit is {self.max_tokens}", "Allow more tokens with --max-tokens."

    def _pieces(self, record: Record) -> list[Piece]:
        turns = [_images_first(turn) for turn in record.turns] if self.images_first else record.turns
        return self.template.training(turns, record.system)

    def _encode(self, record: Record, crops: Iterable[NDArray[np.float32]]) -> Example:
        images = [ImageCrops(image_crop[None], self.rows_per_image) for image_crop in crops]
        return self.tokenizer.encode(self._pieces(record), images, training=True)

    def _crops(self, record: Record) -> list[NDArray[np.float32]]:
        return [crop(open_image(path, "training"), self.image, str(path)) for path in self.image_paths(record)]

    def image_paths(self, record: Record) -> list[Path]:
        """The files of a record's images."""
        return [(self.images or Path()) / name for name in record.images]

    @cached_property
    def _lengths(self) -> Lengths:
        return Lengths(self.tokenizer, self.rows_per_image)


def _images_first(turn: Turn) -> Turn:
    """`<image>\\n` and then the question: preprocess_multimodal in llava/train/train.py."""
    parts = turn.parts()
    marks = parts.count(IMAGE)
    if not marks:
        return turn
    text = "".join(part for part in parts if isinstance(part, str)).strip()
    lines = [*(IMAGE, "\n") * marks, text]
    return Turn(tuple(lines if text else lines[:-2]), 0, turn.answer)
