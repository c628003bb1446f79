"""Opens dialogs over the chat, and carries out what they return. Imports a dialog's code when it is opened."""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path

from textual import work

from mlx_llava.checkpoint.hub import EMBEDDED
from mlx_llava.embedded import IMAGE, QUESTION
from mlx_llava.engine.messages import Choice, Load, ModelFacts
from mlx_llava.errors import LlavaError, UsageError
from mlx_llava.tui.images.cover import Patches, cover_box, mean_color
from mlx_llava.tui.images.eyes import with_fit
from mlx_llava.tui.screens.chat_view import ChatView
from mlx_llava.tui.session import dialogs
from mlx_llava.tui.session.conversation import Node, NumberedImage
from mlx_llava.tui.window import window


class ChatDialogs(ChatView):
    """The chat with dialogs over it."""

    def open(self, dialog: dialogs.Dialog) -> None:
        app, session, composer = self.app, self.session, self.composer
        match dialog:
            case "help":
                from mlx_llava.tui.screens.help import HelpScreen

                app.push_screen(HelpScreen())
            case dialogs.Files(typed):
                from mlx_llava.tui.screens.files import FilesScreen

                app.push_screen(FilesScreen(Path.cwd()), partial(self._attach_file, typed))
            case "history":
                from mlx_llava.tui.screens.history import HistoryScreen

                app.push_screen(HistoryScreen(session.record.history, session.record.chat), self._resume)
            case "settings":
                from mlx_llava.tui.screens.settings import SettingsScreen

                app.push_screen(SettingsScreen(session), lambda _: composer.count_soon())
            case "models":
                from mlx_llava.tui.screens.welcome import Welcome

                app.push_screen(Welcome(), self.start_with)
            case _:
                self._open_about_chat(dialog)

    def _open_about_chat(self, dialog: dialogs.Dialog) -> None:
        """Open a dialog about the images and answers of the chat."""
        app, session, model = self.app, self.session, self.session.model
        match dialog:
            case "eyes":
                self._open_eyes()
            case dialogs.Cover(image) if model:
                from mlx_llava.tui.screens.cover import CoverScreen

                facts = with_fit(model, session.settings.fit)
                app.push_screen(CoverScreen(image, facts), partial(self.cover_and_ask, image, facts))
            case dialogs.Compare(comparison):
                from mlx_llava.tui.screens.compare import CompareScreen

                app.push_screen(CompareScreen(comparison), lambda _: session.stop())
            case dialogs.Attention(token):
                from mlx_llava.tui.screens.attention import AttentionScreen

                app.push_screen(AttentionScreen(session, token or 0))
            case dialogs.Tokens(answer):
                from mlx_llava.tui.screens.tokens import TokensScreen

                app.push_screen(TokensScreen(answer), partial(self._instead, answer))

    def _open_eyes(self) -> None:
        from mlx_llava.tui.screens.eyes import EyesScreen

        images, model = self.session.images(), self.session.model
        if model is None or not images:
            self.notify("There is no picture yet." if model else "No model is loaded yet.")
        else:
            self.app.push_screen(EyesScreen(self.session, model, images))

    def _attach_file(self, typed: str, image: Path | None) -> None:
        if image is not None:
            self.composer.attach([image])
        elif typed:
            self.composer.prompt.insert(typed)

    def _resume(self, key: int | None) -> None:
        self.session.record.reload_title()  # the dialog may have changed it
        self.refresh_state()
        if key is not None:
            window(self).run_command(f"/open {key}")

    def start_with(self, load: Load | None) -> None:
        """Load a model and make it the default; the bundled one, which is loaded already, comes with a sample."""
        if load is None:
            return
        if load.model:
            self.session.load(load, make_default=True)
            return
        self.session.set("model", EMBEDDED)
        if not (self.session.images() or self.composer.reading):
            self.composer.attach([IMAGE])
            self.composer.fill(QUESTION)

    def _instead(self, answer: Node, instead: tuple[int, Choice] | None) -> None:
        if instead is not None:
            self.run_worker(self.change(partial(self.session.instead, answer, *instead)), group="send")

    async def change(self, change: Callable[[], object], *, anchor: bool = True) -> None:
        """Change the session and show it, or report the error."""
        await self.log_view.clear_note()
        try:
            change()
        except LlavaError as error:
            self.composer.report(error)
        if anchor:
            self.log_view.anchor()
        await self.redraw()

    @work(group="send")
    async def cover_and_ask(self, image: NumberedImage, model: ModelFacts, patches: Patches | None) -> None:
        """Ask again with part of an image covered."""
        if patches is None:
            return
        box = patches.box(image.image.size, model.fit)
        try:
            if box[0] >= box[2] or box[1] >= box[3]:
                raise UsageError("there is only padding", "Move the rectangle onto the picture.")
            attachment = await asyncio.to_thread(cover_box, image.image, box, mean_color(model.mean))
            comparison = self.session.cover(image, attachment)
        except LlavaError as error:
            self.composer.report(error)
            return
        await self.redraw()
        self.open(dialogs.Compare(comparison))
