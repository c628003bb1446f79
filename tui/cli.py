"""`mlx-llava chat` = `python -m mlx_llava.tui`."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Annotated

from mlx_llava.checkpoint.hub import EMBEDDED
from mlx_llava.engine.messages import Load
from mlx_llava.engine.thread import Engine, Worker
from mlx_llava.errors import ImageError, UsageError
from mlx_llava.images.files import find_file, is_address
from mlx_llava.inference.options import ModelOptions, PromptOptions, SamplingOptions, check_model
from mlx_llava.program.flags import Examples, flag, positional
from mlx_llava.program.options import parse
from mlx_llava.program.paths import config_folder, data_folder, expand_home
from mlx_llava.program.run import run
from mlx_llava.tui.history.database import HistoryError
from mlx_llava.tui.history.history import History
from mlx_llava.tui.session.autosave import Record
from mlx_llava.tui.session.session import Opening, Session
from mlx_llava.tui.session.settings import KINDS, Settings, accepts, setting_name
from mlx_llava.tui.session.settings_file import read_settings, write_settings

PROMPT_AND_SAMPLING = [field.name for group in (PromptOptions, SamplingOptions) for field in fields(group)]
SETTINGS = {name: setting_name(name) for name in PROMPT_AND_SAMPLING}  # of each option that is a setting too
PLAIN = "MLX_LLAVA_PLAIN"  # 1 means always


@dataclass(frozen=True, kw_only=True)
class OpeningOptions:
    """Chat."""

    words: Annotated[tuple[str, ...], positional("IMAGE ...")] = ()
    """Images or their addresses, for the first question."""
    image: Annotated[tuple[str, ...], flag("IMAGE", "-a")] = ()
    """Image for the first question; repeat the flag for several."""
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
class ChatOptions(OpeningOptions, ModelOptions, PromptOptions, SamplingOptions):
    """Chat about images in the terminal.

    Without --model, the chat starts with the model that was used last. Options for the prompt and for sampling apply to
    this run, in place of the saved settings; F4 and /set change those.
    """

    examples: Examples = ("mlx-llava chat photo.jpg", "mlx-llava chat --continue")


def main() -> None:
    run(start)


def start() -> int:
    """Chat with the options of the command line, and the saved settings for those that it leaves out."""
    saved, notices = read_settings(config_folder())
    options = parse(ChatOptions, "mlx-llava chat", defaults_of=lambda words: saved_options(words, saved))
    return chat(options, saved, notices)


def chat(options: ChatOptions, saved: Settings, notices: Sequence[str] = ()) -> int:
    """Chat; returns the exit code."""
    check(options)
    session = new_session(options, saved, notices)
    opening = Opening(
        load=first_load(options, session.settings),
        images=tuple(image_file(name) for name in names(options) if not is_address(name)),
        urls=tuple(filter(is_address, names(options))),
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


def saved_options(words: Sequence[str], saved: Settings) -> dict[str, object]:
    """The saved settings as defaults of the flags; help shows the program's own."""
    return {} if {"-h", "--help"} & {*words} else {name: getattr(saved, setting) for name, setting in SETTINGS.items()}


def check(options: ChatOptions) -> None:
    """Raise UsageError for values that are not allowed, and for flags that exclude each other."""
    check_model(options)
    if options.last and options.session is not None:
        raise UsageError("--continue and --session exclude each other", "Leave out one.")
    if not accepts("template", options.template):
        raise UsageError(f"--template {options.template}: no such template", f"Use {KINDS['template'].hint}.")


def names(options: ChatOptions) -> tuple[str, ...]:
    """The images of the first question, as they were named."""
    return (*options.image, *options.words)


def image_file(name: str) -> Path:
    """The file of an image; ImageError if there is none, before a screen opens."""
    path = find_file(expand_home(name))
    if not os.path.exists(path):  # noqa: PTH110 - accepts any text
        raise ImageError(f"{name}: no such image", "Check the path. The first question comes with -p.")
    return path


def new_session(options: ChatOptions, saved: Settings, notices: Sequence[str]) -> Session:
    """Return a session whose engine is not started yet."""
    settings = replace(saved, **{setting: getattr(options, name) for name, setting in SETTINGS.items()})
    incognito = options.incognito or settings.incognito
    record = Record(History(None if incognito else data_folder()))
    record.trouble += notices
    save = partial(write_settings, config_folder())
    return Session(partial(Engine, make_worker), settings, record, save, saved)


def first_chat(options: ChatOptions, session: Session) -> int | None:
    """Return the saved chat to continue, if any."""
    if options.session is not None:
        try:
            return session.record.history.info(options.session).key
        except HistoryError as error:
            raise UsageError(f"--session: {error.problem}", "F2 in the chat, or /history, lists them.") from None
    if not options.last:
        return None
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
