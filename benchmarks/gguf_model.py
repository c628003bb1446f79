"""Write the benchmark's text model as GGUF: `python gguf_model.py FILE TYPE`, with a TYPE of F32, Q8_0 or Q4_0.

Runs in the peers' interpreter, which has the package gguf. The weights are noise; shapes and vocabulary are those of
model.py. Every matrix has TYPE, as our converter quantizes every matrix of the text model.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, TokenType  # pyright: ignore[reportMissingImports]
from gguf.quants import quant_shape_to_byte_shape, quantize  # pyright: ignore[reportMissingImports]
from model import TEXT

Shape = tuple[int, ...]


def tensors() -> Iterator[tuple[str, Shape]]:
    """Name and shape of every tensor of a LLaMA in GGUF."""
    width, hidden, vocab = TEXT["hidden_size"], TEXT["intermediate_size"], TEXT["vocab_size"]
    keys = width * TEXT["num_key_value_heads"] // TEXT["num_attention_heads"]
    yield "token_embd.weight", (vocab, width)
    for n in range(TEXT["num_hidden_layers"]):
        for name, rows in (("q", width), ("k", keys), ("v", keys), ("output", width)):
            yield f"blk.{n}.attn_{name}.weight", (rows, width)
        yield f"blk.{n}.ffn_gate.weight", (hidden, width)
        yield f"blk.{n}.ffn_up.weight", (hidden, width)
        yield f"blk.{n}.ffn_down.weight", (width, hidden)
        yield f"blk.{n}.attn_norm.weight", (width,)
        yield f"blk.{n}.ffn_norm.weight", (width,)
    yield "output_norm.weight", (width,)
    yield "output.weight", (vocab, width)


def write(file: Path, kind: GGMLQuantizationType) -> None:
    """Write the header, then one tensor at a time."""
    writer = GGUFWriter(file, "llama")
    add_config(writer)
    add_vocabulary(writer, TEXT["vocab_size"])
    for name, shape in tensors():
        stored = kind if len(shape) == 2 else GGMLQuantizationType.F32
        bytes_shape = quant_shape_to_byte_shape(shape, stored)
        writer.add_tensor_info(name, bytes_shape, np.dtype(np.uint8), int(np.prod(bytes_shape)), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    random = np.random.default_rng(0)
    for _, shape in tensors():
        if len(shape) == 1:
            writer.write_tensor_data(np.ones(shape, np.float32))
        else:
            noise = (random.random(shape, np.float32) - 0.5) * np.float32((12 / shape[-1]) ** 0.5)
            writer.write_tensor_data(quantize(noise, kind))
    writer.close()


def add_config(writer: GGUFWriter) -> None:
    """Add the sizes of the text model."""
    writer.add_context_length(TEXT["max_position_embeddings"])
    writer.add_embedding_length(TEXT["hidden_size"])
    writer.add_block_count(TEXT["num_hidden_layers"])
    writer.add_feed_forward_length(TEXT["intermediate_size"])
    writer.add_head_count(TEXT["num_attention_heads"])
    writer.add_head_count_kv(TEXT["num_key_value_heads"])
    writer.add_rope_dimension_count(TEXT["hidden_size"] // TEXT["num_attention_heads"])
    writer.add_rope_freq_base(TEXT["rope_theta"])
    writer.add_layer_norm_rms_eps(TEXT["rms_norm_eps"])
    writer.add_vocab_size(TEXT["vocab_size"])


def add_vocabulary(writer: GGUFWriter, size: int) -> None:
    """Add a SentencePiece vocabulary: three special tokens, the bytes, and made-up words."""
    special = {"<unk>": TokenType.UNKNOWN, "<s>": TokenType.CONTROL, "</s>": TokenType.CONTROL}
    tokens = special | {f"<0x{n:02X}>": TokenType.BYTE for n in range(256)}
    tokens |= {f"▁word{n}": TokenType.NORMAL for n in range(size - len(tokens))}
    writer.add_tokenizer_model("llama")
    writer.add_token_list(list(tokens))
    writer.add_token_scores([0.0] * size)
    writer.add_token_types(list(tokens.values()))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


if __name__ == "__main__":
    write(Path(sys.argv[1]), GGMLQuantizationType[sys.argv[2]])
