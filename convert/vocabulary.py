"""tokenizer.json of a checkpoint, made from SentencePiece where it has only that. The one user of transformers."""

from pathlib import Path

from mlx_llava.errors import CheckpointError


def write_tokenizer(source: Path, target: Path) -> None:
    """Put the checkpoint's tokenizer.json into the folder `target`.

    Original LLaVA ships `tokenizer.model` alone: transformers' converter reads its pieces. No code and no
    template of the checkpoint is run.
    """
    if (source / "tokenizer.json").exists():
        (target / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
        return
    if not (source / "tokenizer.model").exists():
        raise CheckpointError(
            f"{source}: neither tokenizer.json nor tokenizer.model",
            "Copy the tokenizer of the text model, for example Vicuna's, into the folder.",
        )
    from transformers import LlamaTokenizer

    try:
        tokenizer = LlamaTokenizer(vocab_file=str(source / "tokenizer.model"), legacy=False)
        tokenizer.backend_tokenizer.save(str(target / "tokenizer.json"))
    except (ValueError, RuntimeError, OSError, TypeError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{source / 'tokenizer.model'}: not a SentencePiece model ({reason})",
            "Download the file again, or give the folder a tokenizer.json.",
        ) from None
