"""Reads a tokenizer.json: special tokens, the bytes of the others, and the encoder for text, which has none of them."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers

from mlx_llava.errors import CheckpointError
from mlx_llava.prompts.templates import IMAGE, SPECIALS

BOS, EOS = "<s>", "</s>"  # start of a prompt, end of an answer in LLaMA, Vicuna and Mistral
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
# GPT-2, src/encoder.py: a byte-level vocabulary writes each byte as one visible character
_VISIBLE = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
_INVISIBLE = [byte for byte in range(0x100) if byte not in _VISIBLE]
_BYTE_LEVEL = {chr(byte): byte for byte in _VISIBLE} | {chr(0x100 + i): byte for i, byte in enumerate(_INVISIBLE)}
ADVICE = "Use the tokenizer.json from the folder of the weights."

Spec = dict[str, Any]  # a tokenizer.json


def read_spec(path: Path) -> Spec:
    """The content of a tokenizer.json; CheckpointError if it is not that of a BPE tokenizer."""
    try:
        spec = json.loads(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}", ADVICE) from None
    except (ValueError, RecursionError):
        raise CheckpointError(f"{path}: not JSON", ADVICE) from None
    model = spec.get("model") if isinstance(spec, dict) else None
    if not isinstance(model, dict) or model.get("type") != "BPE":
        raise CheckpointError(f"{path}: not a BPE tokenizer", ADVICE)
    encoder(spec)  # checks the structure of the rest
    return {"added_tokens": [], "pre_tokenizer": None, "decoder": None} | spec


def encoder(spec: Spec) -> tokenizers.Tokenizer:
    """The library's tokenizer of a spec."""
    try:
        return tokenizers.Tokenizer.from_str(json.dumps(spec))
    except Exception as error:  # the library raises nothing narrower
        raise CheckpointError(f"tokenizer.json does not load: {error}", ADVICE) from None


def special_ids(spec: Spec) -> dict[str, int]:
    """The tokens that only special pieces of a prompt become, by their spellings."""
    vocab = spec["model"]["vocab"]
    ids: dict[str, int] = {spelling: vocab[spelling] for spelling in (*SPECIALS, IMAGE.text) if spelling in vocab}
    ids |= {token["content"]: token["id"] for token in spec["added_tokens"]}
    for spelling in (BOS, EOS):
        if spelling not in ids:
            problem = f"tokenizer.json has no {spelling}: not the vocabulary of LLaMA 1 or 2, Vicuna or Mistral"
            raise CheckpointError(problem, "Other vocabularies have other prompts, which are not implemented.")
    return ids


def text_spec(spec: Spec, special_ids: Mapping[str, int]) -> Spec:
    """The tokenizer for text: it has no special tokens, and no merge produces one."""
    # the unknown token stays for characters without a piece, but no text spells it
    model = spec["model"]
    vocab = {p: i for p, i in model["vocab"].items() if p not in special_ids or p == model.get("unk_token")}
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    merges = [
        [left, right]
        for left, right in pairs
        if special_ids.keys().isdisjoint((left, right, left + right)) and not _BYTE.fullmatch(left + right)
    ]
    plain = {"added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
    return spec | plain | {"model": model | {"vocab": vocab, "merges": merges}}


def without_first_prefix(spec: Spec) -> Spec:
    """The tokenizer for text that follows a special token."""
    # Metaspace "first" puts `▁` only before text at the start of the prompt; "always", and the Prepend of
    # old files, before every run of text between special tokens
    first, never = '"prepend_scheme": "first"', '"prepend_scheme": "never"'
    return spec | {"pre_tokenizer": json.loads(json.dumps(spec["pre_tokenizer"]).replace(first, never))}


def spellings(spec: Spec, special_ids: set[int]) -> dict[int, bytes]:
    """The bytes of each token; special tokens have none."""
    read = _byte_level if _decoders(spec) == ["ByteLevel"] else _byte_fallback
    return {token: read(piece) for piece, token in spec["model"]["vocab"].items() if token not in special_ids}


def _byte_fallback(piece: str) -> bytes:
    byte = _BYTE.fullmatch(piece)
    return bytes.fromhex(byte[1]) if byte else piece.replace("▁", " ").encode()


def _byte_level(piece: str) -> bytes:
    if _BYTE_LEVEL.keys() >= set(piece):
        return bytes(_BYTE_LEVEL[char] for char in piece)
    return piece.encode()


def _decoders(spec: Spec) -> list[str]:
    decoder = spec["decoder"] or {}
    return [step.get("type") for step in decoder.get("decoders", [decoder])]


def drops_first_space(spec: Spec) -> bool:
    """Whether a decoded text loses the space that encoding put in front."""
    match _decoders(spec):
        case ["Replace", "ByteFallback", "Fuse", "Strip"]:
            return True
        case ["Replace", "ByteFallback", "Fuse"] | ["ByteLevel"]:
            return False
    raise CheckpointError("tokenizer.json has a decoder that is not implemented", ADVICE)
