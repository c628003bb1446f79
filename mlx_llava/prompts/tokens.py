"""Pieces of a prompt to tokens, and tokens to text.

Knows nothing of templates and of pixels. Special tokens come from special pieces only: text is encoded with a
vocabulary that lacks them, so nothing a user types can become one.
"""

import codecs
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, groupby
from pathlib import Path

import numpy as np
import tokenizers

from mlx_llava.errors import CheckpointError, PromptError
from mlx_llava.inputs import TEXT, Example, ImageCrops, ImageSpan, no_crops
from mlx_llava.prompts import tokenizer_json
from mlx_llava.prompts.byte_bound import at_most_one_token_per_byte
from mlx_llava.prompts.templates import ImageMark, Piece, Special, Text
from mlx_llava.prompts.tokenizer_json import ADVICE, BOS, EOS, Spec

Columns = tuple[list[int], list[int], list[bool]]  # tokens, slots, label mask


class Tokenizer:
    """Encodes prompts and decodes answers."""

    def __init__(self, spec: Spec, image_id: int, restart_after_image: bool) -> None:
        self.special_ids: Mapping[str, int] = tokenizer_json.special_ids(spec)
        self.bos_id, self.eos_id = self.special_ids[BOS], self.special_ids[EOS]
        self._special_names = {number: spelling.encode() for spelling, number in self.special_ids.items()}
        self.image_id = image_id
        self.restart_after_image = restart_after_image
        self.spellings = tokenizer_json.spellings(spec, set(self.special_ids.values()))
        self.drops_first_space = tokenizer_json.drops_first_space(spec)
        self.at_most_one_token_per_byte = at_most_one_token_per_byte(spec)
        unknown_id = self.special_ids.get(spec["model"].get("unk_token"))
        self._forbidden = {*self.special_ids.values()} - {unknown_id} | {self.bos_id, self.eos_id}
        self.reads_any_text = unknown_id not in self._forbidden  # otherwise an unknown character is an error
        text_spec = tokenizer_json.text_spec(spec, self.special_ids)
        self._at_start = tokenizer_json.encoder(text_spec)
        self._inside = tokenizer_json.encoder(tokenizer_json.without_first_prefix(text_spec))

    @classmethod
    def load(cls, path: Path, *, num_rows: int, image_id: int, restart_after_image: bool) -> "Tokenizer":
        """Read a tokenizer.json whose tokens fit an embedding of `num_rows` rows.

        Args:
            image_id: the token at the positions of an image. Slots decide what is embedded there, so a checkpoint
                without such a token, like the original ones, can use any row: 0.
            restart_after_image: original LLaVA tokenizes the text after an image as the start of a string, llava-hf
                as its continuation.
        """
        spec = tokenizer_json.read_spec(path)
        rows = 1 + max([*spec["model"]["vocab"].values(), *(t["id"] for t in spec["added_tokens"])], default=-1)
        if rows > num_rows:
            raise CheckpointError(f"{path}: the tokenizer has {rows} tokens, the model {num_rows} rows", ADVICE)
        if not 0 <= image_id < num_rows:
            problem = f"{path}: the image token is {image_id}, the model has {num_rows} rows"
            raise CheckpointError(problem, "Fix config.json.")
        return cls(spec, image_id, restart_after_image)

    def encode(self, pieces: Sequence[Piece], images: Sequence[ImageCrops], *, training: bool = False) -> Example:
        """The example of a prompt and its images."""
        marks = sum(isinstance(piece, ImageMark) for piece in pieces)
        if marks != len(images):
            problem = f"the prompt has {marks} image marks but {len(images)} images"
            raise PromptError(problem, "Give one image for each mark.")
        ends = accumulate(image.num_rows for image in images)
        rows = [range(end - image.num_rows, end) for image, end in zip(images, ends, strict=True)]
        tokens, slots, label_mask = [], [], []
        for columns in self._columns(pieces, rows):
            tokens += columns[0]
            slots += columns[1]
            label_mask += columns[2]
        if training and not any(label_mask):
            raise PromptError("the conversation has nothing to train on", "Give every turn an answer.")
        spans = tuple(
            ImageSpan(image.key, slots.index(own.start), own.start, image.num_rows, len(image.crops))
            for image, own in zip(images, rows, strict=True)
        )
        crops = np.concatenate([image.crops for image in images]) if images else no_crops()
        columns = np.array(tokens, np.int32), np.array(slots, np.int32), np.array(label_mask, bool)
        return Example(*columns, crops, spans)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of tokens without special ones."""
        detokenizer = Detokenizer(self)
        return "".join(map(detokenizer.add, ids)) + detokenizer.finish()

    def spell(self, ids: Iterable[int]) -> str:
        """The text of tokens with special ones; part of a character becomes U+FFFD."""
        return b"".join(self._special_names.get(n) or self.spellings.get(n, b"") for n in ids).decode(errors="replace")

    def piece(self, token: int) -> str:
        """The text of one token."""
        return self.spell([token])

    def text_ids(self, text: str) -> list[int]:
        """The tokens of text that follows other text."""
        return self._inside.encode(text, add_special_tokens=False).ids

    def fingerprint(self) -> str:
        """A hash of everything that decides the tokens of a prompt."""
        libraries = tokenizers.__version__, self._at_start.to_str(), self._inside.to_str()
        settings = sorted(self.special_ids.items()), self.image_id, self.restart_after_image
        return hashlib.sha256(repr((libraries, settings)).encode("utf-8", "surrogatepass")).hexdigest()

    def _columns(self, pieces: Sequence[Piece], rows: Iterable[range]) -> Iterator[Columns]:
        yield [self.bos_id], [TEXT], [False]
        at_start, rows = True, iter(rows)
        for kind, run in groupby(map(self._text_if_unknown, pieces), type):
            if kind is Text:
                yield self._text(list(run), self._at_start if at_start else self._inside)
                at_start = False
                continue
            for piece in run:
                if kind is ImageMark:
                    slots = list(next(rows))
                    yield [self.image_id] * len(slots), slots, [False] * len(slots)
                else:
                    yield [self.special_ids[piece.text]], [TEXT], [piece.trained]
            at_start = kind is ImageMark and self.restart_after_image

    def _text_if_unknown(self, piece: Piece) -> Piece:
        if isinstance(piece, Special) and piece.text not in self.special_ids:
            return Text(piece.text, piece.trained)
        return piece

    def _text(self, run: Sequence[Piece], encoder: tokenizers.Tokenizer) -> Columns:
        text = "".join(piece.text for piece in run)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            problem = f"the text has a broken character at {error.start}"
            raise PromptError(problem, "Give text that is valid Unicode.") from None
        encoding = encoder.encode(text, add_special_tokens=False)
        if not self._forbidden.isdisjoint(encoding.ids):
            raise PromptError("the text would become a special token", "Leave out characters the model cannot read.")
        trained = np.repeat([piece.trained for piece in run], [len(piece.text) for piece in run])
        # a token is trained if one of its characters is; a leading `▁` and byte tokens span their character
        before = np.concatenate([[0], np.cumsum(trained)])  # trained characters before each position
        starts, ends = np.array(encoding.offsets, int).reshape(-1, 2).T
        return encoding.ids, [TEXT] * len(encoding.ids), (before[ends] > before[starts]).tolist()


class Detokenizer:
    """Decodes tokens one at a time into whole characters.

    Not `tokenizers.decoders.DecodeStream`: it has no end, drops the space after a special token, and raises on
    incomplete bytes; and the library's `decode` loses all characters next to an invalid byte.
    """

    def __init__(self, tokenizer: Tokenizer, drops_first_space: bool | None = None) -> None:
        self._spellings = tokenizer.spellings
        self._drop_space = tokenizer.drops_first_space if drops_first_space is None else drops_first_space
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, token: int) -> str:
        """The text that is complete with this token; special tokens and unused rows have none."""
        return self._cut(self._decoder.decode(self._spellings.get(token, b"")))

    def finish(self) -> str:
        """The remaining text, with U+FFFD for an incomplete character."""
        return self._cut(self._decoder.decode(b"", final=True))

    def _cut(self, text: str) -> str:
        if text and self._drop_space:
            self._drop_space = False
            return text.removeprefix(" ")
        return text
