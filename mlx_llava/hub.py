"""A name or a path to a local folder. The only user of huggingface_hub."""

import os
import re
from pathlib import Path

from mlx_llava.errors import ModelError, NetworkError

# What a checkpoint needs; code, pictures and other frameworks' weights stay on the hub.
FILES = ("*.json", "*.safetensors", "tokenizer.model")
REPOSITORY = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")


def fetch(name: str, revision: str | None = None) -> Path:
    """The folder `name`, or the local copy of the hub repository `name`, downloaded if needed.

    Raises ModelError when there is neither, NetworkError when the hub cannot be reached.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise ModelError(f"{name}: a file, not a folder", "Name the folder that holds the model.")
    if not REPOSITORY.fullmatch(name):
        raise ModelError(f"{name}: no such folder", "Name a folder, or a repository as owner/name.")
    return _download(name, revision)


def _download(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(FILES)))
    except GatedRepoError:
        raise ModelError(
            f"{name}: asks for its licence to be accepted", "Accept it on the hub and set HF_TOKEN."
        ) from None
    except RevisionNotFoundError:
        raise ModelError(f"{name}: no revision {revision}", "Leave --revision out for the newest.") from None
    except (RepositoryNotFoundError, HFValidationError):
        raise ModelError(f"{name}: no such folder, and no such repository on the hub", "Check the name.") from None
    except (LocalEntryNotFoundError, OfflineModeIsEnabled):
        how = "HF_HUB_OFFLINE is set" if os.environ.get("HF_HUB_OFFLINE") else "the hub cannot be reached"
        raise NetworkError(f"{name}: not on this machine, and {how}", "Connect, or name a local folder.") from None
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise NetworkError(f"{name}: the download failed ({reason})", "Try again: finished files are kept.") from None
