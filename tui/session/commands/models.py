"""Commands about models and settings."""

import shlex

from mlx_llava.checkpoint.hub import EMBEDDED
from mlx_llava.engine.messages import Load
from mlx_llava.errors import UsageError
from mlx_llava.program.paths import expand_home
from mlx_llava.program.text import clean_line
from mlx_llava.tui.session import dialogs, figures
from mlx_llava.tui.session.reply import Open, Reply, Say
from mlx_llava.tui.session.session import Session
from mlx_llava.tui.session.settings import ABOUT, NAMES, setting_name


def parse(argument: str) -> Load:
    """Read a model and an adapter: one folder whose name may contain spaces, or words that may be quoted."""
    try:
        name, *rest = [argument] if expand_home(argument).is_dir() else shlex.split(argument)
    except ValueError as error:
        raise UsageError(f"{clean_line(argument, 60)}: {error}", "Quote the folder's name.") from error
    if len(rest) > 1:
        raise UsageError(f"{len(rest) + 1} names, expected a model and an adapter", "Quote names that contain spaces.")
    model = None if name == EMBEDDED else str(expand_home(name)) if name.startswith("~") else name
    return Load(model, str(expand_home(rest[0])) if rest else None)


def model(session: Session, argument: str) -> Reply:
    if not argument and session.model and not session.engine.crashed:
        return Say(figures.model_lines(session.model))
    load = parse(argument) if argument else Load()
    session.load(load)
    return Say(f"loading {figures.model_name_of(load)}")


def compare(session: Session, argument: str) -> Reply:
    if not argument:
        raise UsageError("/compare: no model", "Name a model, and an adapter if you like: /compare MODEL [ADAPTER].")
    return Open(dialogs.Compare(session.compare(parse(argument))))


def change(session: Session, argument: str) -> Reply:
    name, _, value = argument.partition(" ")
    if not name:
        rows = (f"{each:14} {clean_line(session.settings.spelled(each), 24):24} {ABOUT[each]}" for each in NAMES)
        return Open("settings", "\n".join(rows))
    setting = f"{setting_name(name)} = {session.settings.spelled(name)}"
    if not value.strip():
        return Say(f"{setting}: {ABOUT[setting_name(name)]}")
    session.set(name, value)
    when = " from the next start on; /model loads one now" if setting_name(name) in ("model", "adapter") else ""
    return Say(f"{setting_name(name)} = {session.settings.spelled(name)}{when}")


def context(session: Session, _: str) -> Reply:
    if session.engine.usage is None:
        return Say("no tokens counted yet")
    return Say("\n".join(figures.context_lines(session.engine.usage, session.settings.max_tokens)))
