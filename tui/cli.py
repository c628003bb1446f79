"""`mlx-llava chat` = `python -m mlx_llava.tui`."""

import os
import sys
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from mlx_llava.checkpoint.hub import EMBEDDED
from mlx_llava.engine.messages import Load
from mlx_llava.engine.thread import Engine, Worker
from mlx_llava.errors import UsageError
from mlx_llava.inference.options import ModelOptions
from mlx_llava.program.flags import Examples, flag, positional
from mlx_llava.program.options import parse
from mlx_llava.program.paths import config_folder, data_folder, expand_home
from mlx_llava.program.run import run
from mlx_llava.tui.history.history import History
from mlx_llava.tui.session.autosave import Record
from mlx_llava.tui.session.session import Opening, Session
from mlx_llava.tui.session.settings import Settings
from mlx_llava.tui.session.settings_file import read_settings, write_settings

PLAIN = "MLX_LLAVA_PLAIN"  # 1 means always


@dataclass(frozen=True, kw_only=True)
class OpeningOptions:
    """Chat."""

    words: Annotated[tuple[str, ...], positional("IMAGE ...")] = ()
    """Images for the first question."""
    prompt: Annotated[str | None, flag("TEXT", "-p")] = None
    """Ask this first."""
    last: Annotated[bool, flag("", "-c", name="--continue")] = False
    """Continue the last chat."""
    session: int | None = None
    """Continue chat N of the history."""
    incognito: bool = False
    """Do not save this chat."""
    plain: bool = False
    """Plain lines instead of a full screen; the default without a terminal."""


@dataclass(frozen=True, kw_only=True)
class ChatOptions(OpeningOptions, ModelOptions):
    """Chat about images in the terminal.

    Without --model, the chat starts with the model that was used last.
    """

    examples: Examples = ("mlx-llava chat photo.jpg", "mlx-llava chat --continue")


def main() -> None:
    run(lambda: chat(parse(ChatOptions, "mlx-llava chat")))


def chat(options: ChatOptions) -> int:
    """Chat; returns the exit code."""
    if options.revision and not options.model:
        raise UsageError("--revision without --model", "Name the repository with --model.")
    if options.last and options.session is not None:
        raise UsageError("--continue and --session exclude each other", "Leave out one.")
    session = new_session(options)
    opening = Opening(
        load=first_load(options, session.settings),
        images=tuple(expand_home(word) for word in options.words),
        question=options.prompt or "",
        chat=first_chat(options, session),
    )
    if plain(options, session.settings):
        from mlx_llava.tui.plain import talk

        return talk(session, opening)
    from mlx_llava.tui.app import run as run_app

    return run_app(session, opening)


def plain(options: ChatOptions, settings: Settings) -> bool:
    """Whether to use plain lines."""
    dumb = settings.screen_reader or os.environ.get("TERM", "dumb") == "dumb" or os.environ.get(PLAIN) == "1"
    return options.plain or dumb or not (sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty())


def new_session(options: ChatOptions) -> Session:
    """Return a session whose engine is not started yet."""
    settings, notices = read_settings(config_folder())
    incognito = options.incognito or settings.incognito
    record = Record(History(None if incognito else data_folder()))
    record.trouble += notices
    return Session(partial(Engine, make_worker), settings, record, partial(write_settings, config_folder()))


def first_chat(options: ChatOptions, session: Session) -> int | None:
    """Return the saved chat to continue, if any."""
    if not options.last:
        return options.session
    info = session.record.history.last()
    if info is None:
        raise UsageError("there is no chat to continue", "Leave out --continue.")
    return info.key


def make_worker() -> Worker:
    """Return the worker; called on the engine's thread, which imports MLX."""
    from mlx_llava.engine.worker import ModelWorker

    return ModelWorker()


def first_load(options: ChatOptions, settings: Settings) -> Load | None:
    """Return the model to start with; None if the user has not chosen one yet."""
    adapter = str(options.adapter_path) if options.adapter_path else None
    if options.model == EMBEDDED:
        return Load(None, adapter)
    if options.model or adapter:
        return Load(options.model, adapter, options.revision)
    saved = settings.model
    return Load(None if saved == EMBEDDED else saved, settings.adapter) if saved else None
