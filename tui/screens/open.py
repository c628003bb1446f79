"""Opens dialogs over the chat, and carries out what they return. Imports a dialog's code when it is opened."""

from functools import partial
from pathlib import Path
from typing import Any, Protocol

from textual.app import App

from mlx_llava.engine.messages import Choice, Load, ModelFacts
from mlx_llava.tui.images.cover import Patches
from mlx_llava.tui.images.eyes import with_fit
from mlx_llava.tui.models.catalog import StartingModel, sample
from mlx_llava.tui.session import dialogs
from mlx_llava.tui.session.conversation import Node, NumberedImage
from mlx_llava.tui.session.session import Session
from mlx_llava.tui.widgets.composer import Composer


class Chat(Protocol):
    """The chat screen, as dialogs need it."""

    session: Session

    @property
    def composer(self) -> Composer: ...

    def refresh_state(self) -> None: ...

    def action_command(self, line: str) -> Any: ...

    def continue_instead(self, answer: Node, instead: tuple[int, Choice] | None) -> Any: ...

    def cover_and_ask(self, image: NumberedImage, model: ModelFacts, patches: Patches | None) -> Any: ...


def open_dialog(app: App[object], chat: Chat, dialog: dialogs.Dialog) -> None:
    """Open a dialog over a chat."""
    session, composer = chat.session, chat.composer
    match dialog:
        case "help":
            from mlx_llava.tui.screens.help import HelpScreen

            app.push_screen(HelpScreen())
        case dialogs.Files():
            from mlx_llava.tui.screens.files import FilesScreen

            app.push_screen(FilesScreen(Path.cwd()), partial(_attach, composer, dialog.typed))
        case "history":
            from mlx_llava.tui.screens.history import HistoryScreen

            app.push_screen(HistoryScreen(session.record.history, session.record.chat), partial(_resume, chat))
        case "settings":
            from mlx_llava.tui.screens.settings import SettingsScreen

            app.push_screen(SettingsScreen(session), lambda _: composer.count_soon())
        case "models":
            from mlx_llava.tui.screens.welcome import Welcome

            app.push_screen(Welcome(), partial(start_with, chat))
        case _:
            _open_about_chat(app, chat, dialog)


def _open_about_chat(app: App[object], chat: Chat, dialog: dialogs.Dialog) -> None:
    """Open a dialog about the images and answers of the chat."""
    session, model = chat.session, chat.session.model
    match dialog:
        case "eyes":
            _open_eyes(app, chat)
        case dialogs.Cover(image) if model:
            from mlx_llava.tui.screens.cover import CoverScreen

            facts = with_fit(model, session.settings.fit)
            app.push_screen(CoverScreen(image, facts), partial(chat.cover_and_ask, image, facts))
        case dialogs.Compare(comparison):
            from mlx_llava.tui.screens.compare import CompareScreen

            app.push_screen(CompareScreen(comparison), lambda _: session.stop())
        case dialogs.Attention(token):
            from mlx_llava.tui.screens.attention import AttentionScreen

            app.push_screen(AttentionScreen(session, token or 0))
        case dialogs.Tokens(answer):
            from mlx_llava.tui.screens.tokens import TokensScreen

            app.push_screen(TokensScreen(answer), partial(chat.continue_instead, answer))


def _open_eyes(app: App[object], chat: Chat) -> None:
    from mlx_llava.tui.screens.eyes import EyesScreen

    images, model = chat.session.images(), chat.session.model
    if model is None or not images:
        app.notify("There is no picture yet." if model else "No model is loaded yet.")
    else:
        app.push_screen(EyesScreen(chat.session, model, images))


def _attach(composer: Composer, typed: str, image: Path | None) -> None:
    if image is not None:
        composer.attach([image])
    elif typed:
        composer.prompt.insert(typed)


def _resume(chat: Chat, key: int | None) -> None:
    chat.session.record.reload_title()  # the dialog may have changed it
    chat.refresh_state()
    if key is not None:
        chat.action_command(f"/open {key}")


def start_with(chat: Chat, start: StartingModel | None) -> None:
    """Load a model and make it the default; the bundled one, which is loaded already, comes with a sample."""
    if start is None:
        return
    if start.model:
        chat.session.load(Load(start.model), make_default=True)
        return
    chat.session.set("model", "embedded")
    if not (chat.session.images() or chat.composer.reading):
        image, question = sample()
        chat.composer.attach([image])
        chat.composer.fill(question)
