"""`mlx-llava models`: list, pull and remove the models on this machine.

The module is not called `models`, which is the room of MLX modules.
"""

import json
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from mlx_llava.catalog.pulled import name_for
from mlx_llava.convert.options import ConvertOptions, QuantizeOptions, SourceOptions
from mlx_llava.errors import ModelError, NetworkError, UsageError
from mlx_llava.program.flags import Examples, flag, positional
from mlx_llava.program.options import parse
from mlx_llava.program.paths import expand_home
from mlx_llava.program.run import log, run
from mlx_llava.program.text import clean_line, size

if TYPE_CHECKING:
    from mlx_llava.catalog.listing import Entry


@dataclass(frozen=True)
class ModelsOptions:
    """List the models on this machine, pull one, or remove one.

      mlx-llava models
      mlx-llava models pull llava-hf/llava-1.5-7b-hf -q
      mlx-llava ask --model llava-1.5-7b-4bit photo.jpg 'What is this?'
      mlx-llava models remove llava-1.5-7b-4bit

    Listed are the bundled model, pulled models, other folders that this program converted or opened, and downloads in
    the Hugging Face cache that hold a LLaVA. --model of every command takes the names of the first column, except
    downloads that are not converted. `models pull --help` and `models remove --help` show their options.
    """

    examples: Examples = ("mlx-llava models --json",)

    json: bool = False
    """Print one JSON list instead of a table."""


@dataclass(frozen=True, kw_only=True)
class PullOptions(QuantizeOptions, SourceOptions):
    """Download a LLaVA checkpoint and convert it, to be used by its name.

    The name is printed: the repository's, with the bits if quantized. After an interruption the same command resumes
    the download.
    """

    examples: Examples = ("mlx-llava models pull llava-hf/llava-1.5-7b-hf -q",)

    words: Annotated[tuple[str, ...], positional("REPOSITORY")] = ()
    """Checkpoint: a repository on the hub, or a folder."""
    name: Annotated[str | None, flag("NAME")] = None
    """Another name for the model."""


@dataclass(frozen=True)
class RemoveOptions:
    """Remove pulled models. Downloads and folders of your own stay."""

    examples: Examples = ("mlx-llava models remove llava-1.5-7b-4bit --yes",)

    words: Annotated[tuple[str, ...], positional("NAME ...")] = ()
    """Names of pulled models."""
    yes: Annotated[bool, flag("", "-y")] = False
    """Do not ask."""


def main() -> None:
    """Run the action named by the first argument; without one, list."""
    run(lambda: models(sys.argv[1:]))


def models(arguments: Sequence[str]) -> None:
    """Run one action."""
    name, *rest = arguments or [""]
    if name == "pull":
        pull(parse(PullOptions, "mlx-llava models pull", rest))
    elif name == "remove":
        remove(parse(RemoveOptions, "mlx-llava models remove", rest))
    elif name.startswith("-") or not name:
        show(parse(ModelsOptions, "mlx-llava models", arguments))
    else:
        near = get_close_matches(name, ("pull", "remove"), 1)
        advice = f"Did you mean models {near[0]}?" if near else "Use models, models pull or models remove."
        raise UsageError(f"models {name}: no such action", f"{advice} See mlx-llava models --help.")


def show(options: ModelsOptions) -> None:
    """Print the models as a table or as JSON; without a converted one, suggest one that fits."""
    from mlx_llava.catalog.offers import memory, recommended, verdict

    found = _entries()
    if options.json:
        print(json.dumps([_as_json(entry) for entry in found], indent=1))
        return

    def row(entry: "Entry") -> tuple[str, ...]:
        used = f"{datetime.fromtimestamp(entry.last_used):%Y-%m-%d}" if entry.last_used else "never"
        about = {"bundled": "part of mlx-llava", "download": "download" + ", not converted" * (not entry.converted)}
        source = about.get(entry.kind, entry.source)
        return clean_line(entry.name), size(entry.num_bytes), entry.weights or "?", used, clean_line(source)

    rows = [("NAME", "SIZE", "WEIGHTS", "LAST USED", "SOURCE"), *map(row, found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for cells in rows:
        print("  ".join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip())
    if not any(entry.converted and entry.kind != "bundled" for entry in found):
        offer = recommended(memory())
        log("", f"The bundled model knows drawn shapes only. For photos, pull {offer.name}")
        log(f"({size(offer.download)} to download, {size(offer.size)} in 4 bits; {verdict(offer, memory())}):")
        log(f"  mlx-llava models pull {offer.repository} -q")


def pull(options: PullOptions) -> None:
    """Fetch and convert one model into this program's folder, and print its name."""
    from mlx_llava.catalog.pulled import models_folder, sole_writer
    from mlx_llava.convert.cli import convert

    if len(options.words) != 1:
        advice = f"For example: {PullOptions.examples[0]}"
        raise UsageError(f"models pull takes one repository, not {len(options.words)}", advice)
    source = options.words[0]
    shared = {
        field.name: getattr(options, field.name) for kind in (SourceOptions, QuantizeOptions) for field in fields(kind)
    }
    name = _checked_name(options.name or name_of(source, options))
    target = models_folder() / name
    with sole_writer():
        if not _is_there(target, source):
            for left in models_folder().glob(f".{name}-*"):  # by a process that was killed
                shutil.rmtree(left, ignore_errors=True)
            resumes = "" if expand_home(source).exists() else ", and the same command resumes the download"
            log(f"pulling {source}; Ctrl-C stops{resumes}")
            try:
                convert(ConvertOptions(hf_path=source, mlx_path=target, **shared))
            except (KeyboardInterrupt, NetworkError):
                log("", f"nothing converted{resumes}")
                raise
            log(f"use it with --model {name}", *_about_download(source))
    print(name)


def _checked_name(name: str) -> str:
    """The name of a pulled model; UsageError if it cannot be the name of a folder, or is the bundled model's."""
    from mlx_llava.checkpoint.hub import EMBEDDED

    if name == Path(name).name and not name.startswith(".") and name != EMBEDDED:
        return name
    advice = f"Choose another with --name: no slash, no leading dot, and not {EMBEDDED}."
    raise UsageError(f"{name}: not possible as the name of a pulled model", advice)


def name_of(source: str, options: QuantizeOptions) -> str:
    """The name of a pulled model: the repository's or folder's, and how it is quantized."""
    source = str(expand_home(source))
    if not options.quantize:
        return name_for(source)
    from mlx_llava.convert.weights.quantize import check_flags

    quantization = check_flags(options)
    affine = (options.q_recipe or f"{quantization.bits}bit").replace("_", "-")
    return name_for(source, affine if quantization.mode == "affine" else quantization.mode)


def remove(options: RemoveOptions) -> None:
    """Remove pulled models; asks first, and says what was freed."""
    from mlx_llava.catalog.pulled import delete

    if not options.words:
        raise UsageError("models remove without a name", "mlx-llava models lists the names.")
    found = {entry.name: entry for entry in _entries()}
    chosen = []
    for name in dict.fromkeys(options.words):
        entry = found.get(name) or found.get(str(expand_home(name).resolve()))
        if entry is None or entry.kind != "pulled":
            raise ModelError(*_not_ours(name, entry.kind if entry else None))
        chosen.append(entry)
    for entry in chosen:
        if options.yes or _agrees(f"Remove {entry.name} ({size(entry.num_bytes)})?"):
            delete(entry.path)
            print(f"removed {entry.name}: {size(entry.num_bytes)} freed")


def _as_json(entry: "Entry") -> dict[str, Any]:
    used = datetime.fromtimestamp(entry.last_used, UTC).isoformat(timespec="seconds") if entry.last_used else None
    facts = {**asdict(entry), "path": str(entry.path), "bytes": entry.num_bytes, "last_used": used}
    del facts["num_bytes"]
    return facts


def _entries() -> "list[Entry]":
    from mlx_llava.catalog.listing import entries
    from mlx_llava.embedded import CHECKPOINT, converted_path

    return [*entries(CHECKPOINT, converted_path())]


def _is_there(target: Path, source: str) -> bool:
    """Whether the model was pulled before, which is said; raises ModelError for another model of its name."""
    from mlx_llava.catalog.listing import describe

    if not target.exists():
        return False
    entry = describe(target)
    if not entry.converted or entry.source != source:
        problem = f"{target.name}: there is another model of this name, made from {entry.source or 'something else'}"
        raise ModelError(problem, "Choose another name with --name, or remove that one.")
    log(f"already there: {entry.name}, {size(entry.num_bytes)}, {entry.weights}")
    log(f"use it with --model {entry.name}, or remove it first to convert it in another way")
    return True


def _about_download(source: str) -> Iterator[str]:
    """How to free the space of the download."""
    from mlx_llava.checkpoint.hub import downloads

    download = next((download for download in downloads() if download.name == source), None)
    if download is not None and not expand_home(source).exists():
        yield f"the download ({size(download.num_bytes)}) is no longer needed: hf cache rm model/{source}"


def _not_ours(name: str, kind: str | None) -> tuple[str, str]:
    """Why a model is not removed, and what to do instead."""
    match kind:
        case "bundled":
            return f"{name}: part of this program", "It cannot be removed."
        case "download":
            return f"{name}: a download in the Hugging Face cache", f"Remove it with hf cache rm model/{name}"
        case "folder":
            return (
                f"{name}: your own folder, not a pulled model",
                f"Remove it with rm -r {shlex.quote(str(expand_home(name)))}",
            )
        case _:
            return f"{name}: no pulled model", "mlx-llava models lists the names."


def _agrees(question: str) -> bool:
    if not sys.stdin.isatty():
        raise UsageError(f"{question} Standard input is not a terminal", "Add --yes.")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return input().strip().lower() in ("y", "yes")


if __name__ == "__main__":
    main()
