"""From a name or a path to a local folder. The only user of huggingface_hub."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlx_llava.errors import ModelError, NetworkError
from mlx_llava.program.paths import expand_home
from mlx_llava.program.run import quiet

EMBEDDED = "embedded"  # the name of the bundled model
# What a checkpoint needs; code, images, other frameworks' weights and subfolders are not downloaded.
FILES = ("*.json", "*.safetensors", "tokenizer.model")
CONFIG = ("config.json",)
NOT_FILES = ["*/*"]
REPOSITORY = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")


@dataclass(frozen=True)
class Download:
    """A repository of models in the hub's cache."""

    name: str
    num_bytes: int
    snapshots: tuple[Path, ...]
    """Folders, the one fetched last first."""


def fetch(name: str, revision: str | None = None, files: Sequence[str] = FILES) -> Path:
    """The folder `name`, or the local copy of the hub repository `name`, downloaded if needed.

    Raises ModelError if there is neither, NetworkError if the hub cannot be reached. `files` are patterns; CONFIG
    shows what a repository holds before its weights are downloaded.
    """
    path = expand_home(name)
    if name and path.is_dir():  # an empty name would be the current folder
        return path
    if path.is_file():
        raise ModelError(f"{name}: a file, not a folder", "Name the folder that holds the model.")
    if not REPOSITORY.fullmatch(name):
        problem = f"{name or 'an empty name'}: no such folder"
        raise ModelError(problem, "Name a folder, a repository as owner/name, or a model that mlx-llava models lists.")
    folder = _download(name, revision, files)
    if files is FILES and not any(folder.glob("*.safetensors")):
        problem = f"{name}: the repository has no .safetensors weights"
        raise ModelError(problem, "Save them with transformers' save_pretrained, and name that folder.")
    return folder


def hub_cache() -> Path:
    """The folder of downloaded repositories."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def downloads() -> Iterator[Download]:
    """The repositories of models in the hub's cache, by name; damaged ones are left out."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = scan_cache_dir(hub_cache()).repos
    except CacheNotFound:
        return
    for repository in sorted(repositories, key=lambda repository: repository.repo_id):
        if repository.repo_type == "model":
            newest_first = sorted(repository.revisions, key=lambda revision: -revision.last_modified)
            snapshots = tuple(revision.snapshot_path for revision in newest_first)
            yield Download(repository.repo_id, repository.size_on_disk, snapshots)


def _download(name: str, revision: str | None, files: Sequence[str]) -> Path:
    from huggingface_hub import errors, is_offline_mode, snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    if quiet():
        disable_progress_bars()
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(files), ignore_patterns=NOT_FILES))
    except errors.GatedRepoError:
        raise ModelError(f"{name}: gated repository", "Accept its license on the hub and set HF_TOKEN.") from None
    except errors.RevisionNotFoundError:
        raise ModelError(f"{name}: no revision {revision}", "Leave --revision out to get the newest.") from None
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        raise ModelError(
            f"{name}: no such folder, and no such repository on the hub",
            "Check the name; a private repository needs HF_TOKEN.",
        ) from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled):
        how = "HF_HUB_OFFLINE is set" if is_offline_mode() else "the hub cannot be reached"
        raise NetworkError(f"{name}: not on this machine, and {how}", "Connect, or name a local folder.") from None
    except Exception as error:  # errors of its HTTP client are not OSErrors
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise NetworkError(f"{name}: the download failed ({reason})", "Try again: finished files are kept.") from error
