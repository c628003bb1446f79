"""The adapters that a LoRA run starts from: new ones, or those of an earlier run."""

from pathlib import Path

from mlx_llava.checkpoint import adapters
from mlx_llava.checkpoint.folder import Checkpoint
from mlx_llava.errors import UsageError
from mlx_llava.models.lora import Lora, attach
from mlx_llava.training.options import LoraOptions
from mlx_llava.training.snapshots import sha256


def start_folder(options: LoraOptions) -> Path | None:
    """The folder of the adapters to start from, checked before a model is loaded; None for new adapters."""
    path = options.resume_adapter_file
    if path is None:
        return None
    folder = path.parent if path.name == adapters.ADAPTERS else path
    if options.projector is not None:
        raise UsageError("--resume-adapter-file and --projector exclude each other", "Leave one out.")
    if folder.resolve() == options.adapter_path.resolve():
        raise UsageError(
            f"{folder}: both --resume-adapter-file and --adapter-path",
            "Write the new adapters to another folder. An interrupted run resumes without --resume-adapter-file.",
        )
    adapters.check_folder(folder)
    return folder


def attach_adapters(folder: Path | None, checkpoint: Checkpoint, base: str, lora: Lora) -> None:
    """Attach new adapters to a model, or those of a folder, with their projector.

    Args:
        base: the fingerprint of the model.

    Raises UsageError if the folder's adapters have another rank, alpha, dropout, template or image fit.
    """
    if folder is None:
        attach(checkpoint.model, lora)
        return
    found = adapters.load(folder, checkpoint.model, base)
    if found is None:
        raise UsageError(f"{folder}: holds a projector and no adapters", "Give it as --projector.")
    config = adapters.with_training_format(folder, checkpoint.config)
    if found != lora or config != checkpoint.config:
        flags = f"--rank {found.rank} --alpha {found.alpha:g} --dropout {found.dropout:g}"
        raise UsageError(
            f"{folder}: its adapters were trained with other settings",
            f"Give {flags} --template {config.template} --fit {config.image.fit}.",
        )


def start_digest(folder: Path | None) -> str | None:
    """What a resumed run must find again in the folder."""
    files = [folder / name for name in (adapters.ADAPTERS, adapters.PROJECTOR)] if folder else []
    return " ".join(sha256(file) for file in files if file.exists()) or None
