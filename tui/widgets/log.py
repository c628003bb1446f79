"""The conversation on the screen: its last turns, and older ones on demand."""

import asyncio
from itertools import takewhile

from textual.containers import VerticalScroll
from textual.widgets import Static

from mlx_llava.program.text import clean
from mlx_llava.tui.session.conversation import Conversation, Node
from mlx_llava.tui.widgets.turns import AnswerTurn, QuestionTurn, Turn

WINDOW = 40  # turns on the screen; with more, scrolling and resizing are slow


class Older(Static):
    """Shows the number of older turns; a click loads some."""

    def on_click(self) -> None:
        self.screen.query_one(Log).run_worker(self.screen.query_one(Log).show_older(), group="log")


GREETING = """Ask about a picture: drop its file here, paste its path, or /image PATH.
Questions of text alone work too. Everything stays on this machine."""


class Greeting(Static):
    """The text of an empty chat."""


class Log(VerticalScroll, can_focus=False):
    """Shows the path through a conversation."""

    def __init__(self) -> None:
        super().__init__(id="log")
        self.conversation = Conversation()
        self.window = WINDOW
        self.images = True
        """Whether new turns show their images."""
        self._drawing = asyncio.Lock()

    def on_mount(self) -> None:
        """Stay at the end until the user scrolls."""
        self.mount(Greeting(GREETING, markup=False))
        self.anchor()

    @property
    def turns(self) -> list[Turn]:
        return list(self.query(Turn))

    def turn(self, node: Node) -> Turn | None:
        return next((turn for turn in self.turns if turn.node is node), None)

    async def note(self, text: str, error: bool = False) -> None:
        """Show a text that is not part of the conversation, in place of the last one."""
        await self.clear_note()
        await self.mount(Static(clean(text), markup=False, classes="note -error" if error else "note"))
        self.anchor()

    async def clear_note(self) -> None:
        await self.query(".note").remove()

    async def show_images(self, images: bool) -> None:
        if images != self.images:
            self.images = images
            async with self._drawing:
                await self.query(Turn).remove()

    async def show(self, conversation: Conversation) -> None:
        """Show the current path; turns already on the screen stay."""
        async with self._drawing:
            if conversation is not self.conversation:
                self.conversation, self.window = conversation, WINDOW
            path = conversation.path()
            visible = path[-self.window :]
            turns = self.turns
            reused = 0
            if turns and visible and turns[0].node in path:
                offset = path.index(turns[0].node)
                visible = path[offset:]
                same = takewhile(lambda pair: pair[0].node is pair[1], zip(turns, visible, strict=False))
                reused = len([*same])  # turns at the start that already show their nodes
            with self.app.batch_update():
                for turn in turns[reused:]:
                    await turn.remove()
                await self.mount_all(self._make(node, path) for node in visible[reused:])
                await self._show_num_older(len(path) - len(visible))
                await self.query(Greeting).remove()
                if not path:
                    await self.mount(Greeting(GREETING, markup=False))
            for turn in self.turns:
                turn.refresh_branches()

    async def show_older(self) -> None:
        """Load WINDOW older turns without moving the visible ones."""
        path, first = self.conversation.path(), self.turns[0]
        end = path.index(first.node)
        start = max(end - WINDOW, 0)
        self.window = len(path) - start
        await self.mount_all([self._make(node, path) for node in path[start:end]], before=first)
        await self._show_num_older(start)
        first.scroll_visible(animate=False, top=True)

    async def _show_num_older(self, count: int) -> None:
        await self.query(Older).remove()
        if count:
            await self.mount(Older(f"↑ {count} earlier — click, or PageUp at the top", markup=False), before=0)

    def _make(self, node: Node, path: list[Node]) -> Turn:
        if node.role == "assistant":
            return AnswerTurn(node)
        before = path[: path.index(node)]
        return QuestionTurn(node, 1 + sum(len(n.images) for n in before), self.images)

    def action_page_up(self) -> None:
        """Scroll up; at the top, load older turns."""
        if self.scroll_y <= 0 and self.query(Older):
            self.run_worker(self.show_older(), group="log")
        else:
            super().action_page_up()
