"""Train a LLaMA-style tokenizer on conversations. `python examples/tiny/tokenizer.py OUT text.json finetune.json`

Byte-pair encoding with byte fallback: <unk>, <s>, </s>, 256 bytes, the learned pieces, then <image> and <pad> as in
llava-hf. The first piece of a word begins with ▁.
"""

import json
import string
from collections.abc import Iterator
from pathlib import Path

import tyro
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from tyro.conf import Positional

from mlx_llava.prompts.templates import Text, Turn, template

SPECIAL = ("<unk>", "<s>", "</s>")
BYTES = tuple(f"<0x{n:02X}>" for n in range(256))


def main(out: Positional[Path], data: Positional[list[Path]], size: int = 638) -> None:
    """Write OUT/tokenizer.json: `size` tokens, followed by the two that llava-hf adds."""
    corpus = [sentence for path in data for sentence in sentences(path)]
    bpe = Tokenizer(models.BPE())
    lines = pre_tokenizers.Split("\n", "removed")  # line breaks stay bytes
    splits = [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation(), lines]  # pieces never span words or punctuation
    bpe.pre_tokenizer = pre_tokenizers.Sequence(splits)  # pyright: ignore
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(SPECIAL) - len(BYTES),
        initial_alphabet=["▁", *string.digits, *string.ascii_letters, *string.punctuation],
        show_progress=False,
    )
    bpe.train_from_iterator(corpus, trainer)
    model = json.loads(bpe.to_str())["model"]
    pieces = sorted(model["vocab"], key=model["vocab"].__getitem__)
    vocabulary = {piece: n for n, piece in enumerate((*SPECIAL, *BYTES, *pieces))}
    if len(vocabulary) != size:
        raise SystemExit(f"The text yields {len(vocabulary)} tokens, not {size}. Use more text, or a smaller --size.")
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(tokenizer_json(vocabulary, model["merges"]), ensure_ascii=False, indent=1)
    (out / "tokenizer.json").write_text(text + "\n", encoding="utf-8")


def sentences(path: Path) -> Iterator[str]:
    """The text of a file as the model reads it, including what the prompt template adds."""
    for row in json.loads(path.read_text()):
        texts = [turn["value"].removeprefix("<image>\n") for turn in row["conversations"]]
        turns = [Turn(question, answer=answer) for question, answer in zip(texts[::2], texts[1::2], strict=True)]
        yield from (piece.text for piece in template("vicuna_v1").training(turns) if isinstance(piece, Text))


def tokenizer_json(vocabulary: dict[str, int], merges: list[list[str]]) -> dict:
    """The content of tokenizer.json, in the form transformers writes for LLaMA."""
    added = (
        *((token, n) for n, token in enumerate(SPECIAL)),
        ("<image>", len(vocabulary)),
        ("<pad>", len(vocabulary) + 1),
    )
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    start = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": n, "content": token, **plain} for token, n in added],
        "normalizer": None,
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [start, first],
            "pair": [start, first, start, second],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": merges,
        },
    }


if __name__ == "__main__":
    tyro.cli(main)
