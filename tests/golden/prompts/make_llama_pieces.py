"""Writes llama_pieces.json: a few pieces of LLaMA's vocabulary at their published ids.

    python tests/golden/prompts/make_llama_pieces.py

The published ids are those of the prompt of `llava_v1` as LLaVA's `tokenizer_image_token` gives it.
Letters and word beginnings that merges need, and other words of the tests, stand from 30000 on: their ids
are ours.
"""

import json
from pathlib import Path

PUBLISHED = {
    "▁A": 319, "▁chat": 13563, "▁between": 1546, "▁a": 263, "▁curious": 12758, "▁human": 5199, "▁user": 1404,
    "▁and": 322, "▁an": 385, "▁artificial": 23116, "▁intelligence": 21082, "▁assistant": 20255, ".": 29889,
    "▁The": 450, "▁gives": 4076, "▁helpful": 8444, ",": 29892, "▁detailed": 13173, "▁pol": 1248, "ite": 568,
    "▁answers": 6089, "▁to": 304, "▁the": 278, "'": 29915, "s": 29879, "▁questions": 5155, "▁US": 3148,
    "ER": 1001, ":": 29901, "▁": 29871, "SS": 1799, "IST": 9047, "ANT": 13566, "ASS": 22933, "USER": 11889,
}  # fmt: skip
BYTES = {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
SPECIAL = {"<unk>": 0, "<s>": 1, "</s>": 2}
OTHER_WORDS = ("▁Human", "▁Assistant", "▁What", "▁red", "▁blue", "▁[", "▁[/")
OTHER_LETTERS = ("]", "y")
INNER_MERGES = [
    ("i", "t"), ("it", "e"), ("E", "R"), ("S", "S"), ("I", "S"), ("IS", "T"), ("A", "N"), ("AN", "T"),
    ("A", "SS"), ("U", "S"), ("US", "ER"), ("I", "N"), ("S", "T"), ("IN", "ST"), ("#", "#"),
]  # fmt: skip


def merges() -> list[tuple[str, str]]:
    """Words grow from their `▁` letter by letter, before anything else joins."""
    words = sorted(piece for piece in (*PUBLISHED, *OTHER_WORDS) if piece.startswith("▁"))
    pairs = [(word[:end], word[end]) for word in words for end in range(1, len(word))]
    return [*dict.fromkeys(pairs), *INNER_MERGES]


def vocabulary() -> dict[str, int]:
    """Every piece with its id."""
    pieces = [*OTHER_LETTERS, *(piece for pair in merges() for piece in (*pair, "".join(pair)))]
    unpublished = dict.fromkeys(piece for piece in pieces if piece not in PUBLISHED)
    scaffolding = {piece: 30000 + i for i, piece in enumerate(unpublished)}
    return SPECIAL | BYTES | PUBLISHED | scaffolding


def tokenizer() -> dict[str, object]:
    """The tokenizer.json, with the steps transformers gives LLaMA's."""
    space = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False) | {"special": True}
    return {
        "version": "1.0",
        "added_tokens": [{"id": token, "content": piece, **flags} for piece, token in SPECIAL.items()],
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False},
        "decoder": {
            "type": "Sequence",
            "decoders": [space, {"type": "ByteFallback"}, {"type": "Fuse"}, strip],
        },
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": vocabulary(),
            "merges": merges(),
        },
    }


if __name__ == "__main__":
    path = Path(__file__).with_name("llama_pieces.json")
    path.write_text(json.dumps(tokenizer(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
