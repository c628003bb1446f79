"""Records to examples: the prompt that teaches, and the pictures as the tower sees them.

An example is whole or it is not made: nothing is cut at a limit, and none is without an answer to learn.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlx_llava.config import ImageConfig
from mlx_llava.data.dataset import Dataset, refusal
from mlx_llava.data.feature_files import FeatureFiles, feature_batch, read_all
from mlx_llava.data.lengths import Lengths
from mlx_llava.data.loader import loader
from mlx_llava.data.records import Record
from mlx_llava.errors import LlavaError, PromptError, RecordError
from mlx_llava.images.pixels import crop, open_image
from mlx_llava.inputs import Batch, Example, collate, no_crops
from mlx_llava.prompts.templates import IMAGE, ImageMark, Piece, Template, Turn
from mlx_llava.prompts.tokens import Tokenizer

CHUNK = 1000  # records that are checked together


@dataclass(frozen=True)
class ExampleBuilder:
    """Makes examples as one model wants them."""

    template: Template
    tokenizer: Tokenizer
    image: ImageConfig
    rows_per_crop: int
    images: Path | None
    """The folder of the pictures."""
    max_tokens: int
    images_first: bool = False
    """Move a question's pictures to its front, as LLaVA's own training does."""

    def example(self, record: Record, *, open_images: bool = True) -> Example:
        """The example of a record; an error that names the record where none can be made.

        Args:
            open_images: if false, leave the image files closed; the example's crops are empty.
        """
        try:
            crops = self._crops(record) if open_images else np.zeros((len(record.images), 0, 0, 3), np.float32)
            example = self._encode(self._pieces(record), crops)
        except LlavaError as error:
            raise type(error)(f"{record.where}: {error.problem}", error.advice) from error
        if len(example.tokens) > self.max_tokens:
            raise RecordError(
                f"{record.where}: {len(example.tokens)} tokens, the limit is {self.max_tokens}",
                "Leave the record out with --leave-out, or allow more with --max-tokens.",
            )
        return example

    def num_tokens(self, record: Record) -> int:
        """How many tokens a record has, pictures included, which are not opened for it."""
        return self._count(self._pieces(record))

    def fault(self, record: Record) -> str | None:
        """Why no example can be made of a record, told without opening its pictures."""
        try:
            pieces = self._pieces(record)
            tokens = 0 if self._lengths.at_most(pieces) <= self.max_tokens else self._count(pieces)
        except PromptError as error:
            return f"{record.where}: {error.problem}"
        if tokens > self.max_tokens:
            return f"{record.where}: {tokens} tokens, the limit is {self.max_tokens}"
        return None

    def _pieces(self, record: Record) -> list[Piece]:
        turns = [_images_first(turn) for turn in record.turns] if self.images_first else record.turns
        return self.template.training(turns, record.system)

    def _encode(self, pieces: Sequence[Piece], crops: NDArray[np.float32]) -> Example:
        return self.tokenizer.encode(pieces, crops, self.rows_per_crop, training=True)

    def _crops(self, record: Record) -> NDArray[np.float32]:
        crops = [crop(open_image(path, "training"), self.image, str(path)) for path in self.image_paths(record)]
        return np.stack(crops) if crops else no_crops()

    def image_paths(self, record: Record) -> list[Path]:
        """The files of a record's pictures."""
        return [(self.images or Path()) / name for name in record.images]

    def _count(self, pieces: Sequence[Piece]) -> int:
        marks = sum(isinstance(piece, ImageMark) for piece in pieces)
        return len(self._encode(pieces, np.zeros((marks, 0, 0, 3), np.float32)).tokens)

    @cached_property
    def _lengths(self) -> Lengths:
        return Lengths(self.tokenizer, self.rows_per_crop)


@dataclass(frozen=True, eq=False)
class Examples:
    """The examples of a dataset, made when they are asked for; can be sent to a worker."""

    dataset: Dataset
    builder: ExampleBuilder
    feature_files: FeatureFiles | None = None
    """The cache of vision features."""

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Example:
        return self.builder.example(self.dataset[index])

    def batch(self, indices: Sequence[int]) -> Batch:
        """The batch of some records; where features are kept and all of its pictures are known, none is opened."""
        records = list(self.dataset.records(indices))
        if self.feature_files is None:
            return self._batch(records)
        keys = [self.feature_files.key(path) for record in records for path in self.builder.image_paths(record)]
        features = read_all(self.feature_files, keys)
        return feature_batch(self._batch(records, open_images=features is None), keys, features)

    def _batch(self, records: Sequence[Record], *, open_images: bool = True) -> Batch:
        return collate(
            [self.builder.example(record, open_images=open_images) for record in records], self.builder.rows_per_crop
        )

    def faults(self, indices: Sequence[int]) -> dict[int, str]:
        """What is wrong with those of some records that no example can be made of."""
        told = zip(indices, map(self.builder.fault, self.dataset.records(indices)), strict=True)
        return {index: fault for index, fault in told if fault}

    def fitting(self, *, leave_out: bool = False, num_workers: int = 0) -> "Examples":
        """The same, once it is known that all can be made: RecordError, or left out and told in dataset.left_out."""
        faults: dict[int, str] = {}
        with loader(self.faults, _chunks(len(self)), num_workers) as found:
            for _, some in found:
                faults |= some
        if faults and not leave_out:
            raise refusal(list(faults.values()), "Leave them out with --leave-out, or allow more with --max-tokens.")
        if len(faults) == len(self):
            raise refusal(list(faults.values()), "Nothing is left to train on: allow more with --max-tokens.")
        return replace(self, dataset=self.dataset.without(faults))


def _chunks(count: int) -> Iterator[tuple[int, range]]:
    for start in range(0, count, CHUNK):
        yield start, range(start, min(start + CHUNK, count))


def _images_first(turn: Turn) -> Turn:
    """`<image>\\n` and then the question: preprocess_multimodal in llava/train/train.py."""
    parts = turn.parts()
    marks = parts.count(IMAGE)
    if not marks:
        return turn
    text = "".join(part for part in parts if isinstance(part, str)).strip()
    lines = [*(IMAGE, "\n") * marks, text]
    return replace(turn, question=tuple(lines if text else lines[:-2]), num_images=0)
