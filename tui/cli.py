"""`mlx-llava chat` = `python -m mlx_llava.tui`."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional

from mlx_llava.errors import UsageError
from mlx_llava.options import optional, parse
from mlx_llava.program import run

if TYPE_CHECKING:
    from mlx_llava.tui.engine import Engine
    from mlx_llava.tui.messages import Load
    from mlx_llava.tui.session import Session

PLAIN = "MLX_LLAVA_PLAIN"  # set to 1: always plain


@dataclass(frozen=True)
class ChatOptions:
    """Chat about pictures in the terminal: `mlx-llava chat photo.jpg`."""

    words: Annotated[Positional[tuple[str, ...]], optional("PICTURE ...")] = ()
    """Pictures for the first question."""
    model: Annotated[str | None, optional("MODEL", "-m")] = None
    """Converted folder, or a repository that holds one; `embedded` is the small model of this package."""
    adapter_path: Annotated[Path | None, optional("FOLDER")] = None
    """Adapters that `mlx-llava lora` trained on this model."""
    revision: Annotated[str | None, optional("REVISION")] = None
    """Branch, tag or commit of the repository."""
    prompt: Annotated[str | None, optional("TEXT", "-p")] = None
    """Ask this first."""
    plain: bool = False
    """Lines of text alone: no full screen, nothing that moves. So it is too without a terminal."""


def main() -> None:
    """Run the program."""
    run(lambda: chat(parse(ChatOptions, "mlx-llava chat")))


def chat(options: ChatOptions) -> int:
    """Chat; the exit code."""
    if options.revision and not options.model:
        raise UsageError("--revision without --model", "Name the repository with --model.")
    pictures = tuple(Path(word).expanduser() for word in options.words)
    session = new_session()
    load = first_load(options, session)
    if plain(options):
        from mlx_llava.tui.plain import talk

        return talk(session, load, pictures, options.prompt or "")
    from mlx_llava.tui.app import run as run_app

    return run_app(session, load, pictures, options.prompt or "")


def plain(options: ChatOptions) -> bool:
    """Whether to keep to lines of text."""
    dumb = os.environ.get("TERM", "dumb") == "dumb" or os.environ.get(PLAIN) == "1"
    return options.plain or dumb or not (sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty())


def new_session() -> "Session":
    """A session with an engine of its own, a model's thread not yet started."""
    from mlx_llava.tui.database import data_folder
    from mlx_llava.tui.history import History
    from mlx_llava.tui.record import Record
    from mlx_llava.tui.session import Session
    from mlx_llava.tui.settings import Settings

    return Session(make_engine, Settings(), Record(History(data_folder())))


def make_engine() -> "Engine":
    """The engine with the real model; MLX is imported on its thread."""
    from mlx_llava.tui.engine import Engine, Worker

    def make_worker() -> Worker:
        from mlx_llava.tui.worker import ModelWorker

        return ModelWorker()

    return Engine(make_worker)


def first_load(options: ChatOptions, session: "Session") -> "Load | None":
    """The model to begin with; None where nobody has chosen one yet."""
    from mlx_llava.tui.messages import Load

    adapter = str(options.adapter_path) if options.adapter_path else None
    if options.model == "embedded":
        return Load(None, adapter)
    if options.model or adapter:
        return Load(options.model, adapter, options.revision)
    saved = session.settings.model
    return Load(None if saved == "embedded" else saved, session.settings.adapter) if saved else None
