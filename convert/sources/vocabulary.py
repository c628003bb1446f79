"""tokenizer.json of a checkpoint, converted from SentencePiece if that is all it has. The only user of transformers."""

import os
import shutil
import tempfile
from pathlib import Path

from mlx_llava.checkpoint.folder import load_tokenizer
from mlx_llava.checkpoint.strict_json import Section, read_json
from mlx_llava.config import LlavaConfig
from mlx_llava.errors import CheckpointError

# Words, digits, bytes and a line break, on which tokenizers of other kinds differ.
SAMPLE = "USER: What's on the 3 plates?\n ASSISTANT:  Zwei Äpfel, 一个梨 (2.50 €)."
ADVICE = "Download the file again, or give the folder a tokenizer.json."


def read_tokenizer(source: Path, config: LlavaConfig) -> bytes:
    """The tokenizer.json of a checkpoint, checked against its config.

    Original LLaVA ships only `tokenizer.model`. transformers' converter reads it from a folder that holds nothing
    else, so that it cannot use code or templates of the checkpoint.
    """
    if (source / "tokenizer.json").exists():
        load_tokenizer(source, config)
        return (source / "tokenizer.json").read_bytes()
    if not (source / "tokenizer.model").exists():
        problem = f"{source}: neither tokenizer.json nor tokenizer.model"
        raise CheckpointError(problem, "Copy the tokenizer of the text model, for example Vicuna's, into the folder.")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copyfile(source / "tokenizer.model", folder / "tokenizer.model")
        _from_sentencepiece(folder, source)
        load_tokenizer(folder, config)
        return (folder / "tokenizer.json").read_bytes()


def _from_sentencepiece(folder: Path, source: Path) -> None:
    """Write the folder's tokenizer.json from its tokenizer.model; both must give the same tokens."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # about the missing torch
    from sentencepiece import SentencePieceProcessor
    from transformers import LlamaTokenizer

    # whether text after a special token gets another leading space, as in LLaMA's tokenizer until 2023
    path = source / "tokenizer_config.json"
    legacy = path.exists() and Section(read_json(path), path.name).flag("legacy", False)
    where = source / "tokenizer.model"
    try:
        original = SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
        tokenizer = LlamaTokenizer.from_pretrained(folder, legacy=legacy, local_files_only=True)
    except Exception as error:  # the libraries raise nothing narrower
        raise CheckpointError(f"{where}: not a SentencePiece model", ADVICE) from error
    if original.encode(SAMPLE) != tokenizer.encode(SAMPLE, add_special_tokens=False):
        raise CheckpointError(f"{where}: not a LLaMA tokenizer", "Give the folder a tokenizer.json.")
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
