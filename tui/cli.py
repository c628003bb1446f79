"""`mlx-llava chat` = `python -m mlx_llava.tui`."""

import os
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from mlx_llava.checkpoint.hub import EMBEDDED
from mlx_llava.engine.messages import Load
from mlx_llava.engine.thread import Engine, Worker
from mlx_llava.errors import UsageError
from mlx_llava.program.options import optional, parse
from mlx_llava.program.paths import config_folder, data_folder, expanded
from mlx_llava.program.run import run
from mlx_llava.tui.history.history import History
from mlx_llava.tui.session.autosave import Record
from mlx_llava.tui.session.session import Opening, Session
from mlx_llava.tui.session.settings import Settings
from mlx_llava.tui.session.settings_file import read_settings, write_settings

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
    last: Annotated[bool, arg(name="continue", aliases=["-c"])] = False
    """Go on in the chat that was used last."""
    session: Annotated[int | None, optional("N")] = None
    """Go on in chat N of the history."""
    incognito: bool = False
    """Keep nothing of this chat."""
    plain: bool = False
    """Lines of text alone: no full screen, nothing that moves. So it is too without a terminal."""


def main() -> None:
    """Run the program."""
    run(lambda: chat(parse(ChatOptions, "mlx-llava chat")))


def chat(options: ChatOptions) -> int:
    """Chat; the exit code."""
    if options.revision and not options.model:
        raise UsageError("--revision without --model", "Name the repository with --model.")
    if options.last and options.session is not None:
        raise UsageError("--continue and --session exclude each other", "Leave one out.")
    session = new_session(options)
    opening = Opening(
        load=first_load(options, session.settings),
        images=tuple(expanded(word) for word in options.words),
        question=options.prompt or "",
        chat=first_chat(options, session),
    )
    if plain(options, session.settings):
        from mlx_llava.tui.plain import talk

        return talk(session, opening)
    from mlx_llava.tui.app import run as run_app

    return run_app(session, opening)


def plain(options: ChatOptions, settings: Settings) -> bool:
    """Whether to keep to lines of text."""
    dumb = settings.screen_reader or os.environ.get("TERM", "dumb") == "dumb" or os.environ.get(PLAIN) == "1"
    return options.plain or dumb or not (sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty())


def new_session(options: ChatOptions) -> Session:
    """A session with an engine of its own, whose thread is not yet started."""
    kept = read_settings(config_folder())
    incognito = options.incognito or kept.settings.incognito
    record = Record(History(None if incognito else data_folder()))
    record.trouble += kept.notices
    return Session(make_engine, kept.settings, record, partial(write_settings, config_folder()))


def first_chat(options: ChatOptions, session: Session) -> int | None:
    """The chat of the history to go on in, if any."""
    if not options.last:
        return options.session
    info = session.record.history.last()
    if info is None:
        raise UsageError("there is no chat to continue", "Leave --continue out.")
    return info.key


def make_engine() -> Engine:
    """The engine with the real model; MLX is imported on its thread."""

    def make_worker() -> Worker:
        from mlx_llava.engine.worker import ModelWorker

        return ModelWorker()

    return Engine(make_worker)


def first_load(options: ChatOptions, settings: Settings) -> Load | None:
    """The model to begin with; None where nobody has chosen one yet."""
    adapter = str(options.adapter_path) if options.adapter_path else None
    if options.model == EMBEDDED:
        return Load(None, adapter)
    if options.model or adapter:
        return Load(options.model, adapter, options.revision)
    saved = settings.model
    return Load(None if saved == EMBEDDED else saved, settings.adapter) if saved else None
