"""The conversation on the screen: its last turns, older ones when they are asked for."""

import asyncio

from textual.containers import VerticalScroll
from textual.widgets import Static

from mlx_llava.tui.session.conversation import Conversation, Node
from mlx_llava.tui.widgets.turns import AnswerTurn, QuestionTurn, Turn

WINDOW = 40  # turns on the screen; more make scrolling and resizing slow


class Older(Static):
    """Says how many turns are not on the screen; a click brings some."""

    def on_click(self) -> None:
        """Bring older turns."""
        self.screen.query_one(Log).run_worker(self.screen.query_one(Log).show_older(), group="log")


GREETING = """Ask about a picture: drop its file here, paste its path, or /image PATH.
Questions of text alone work too. Everything stays on this machine."""


class Greeting(Static):
    """What an empty chat says."""


class Log(VerticalScroll, can_focus=False):
    """Shows the path through a conversation."""

    def __init__(self) -> None:
        super().__init__(id="log")
        self.conversation = Conversation()
        self.window = WINDOW
        self.images = True
        """Whether questions show their pictures; for those drawn from now on."""
        self._drawing = asyncio.Lock()

    def on_mount(self) -> None:
        """Stay at the end as long as nobody scrolls."""
        self.mount(Greeting(GREETING, markup=False))
        self.anchor()

    @property
    def turns(self) -> list[Turn]:
        """The turns on the screen."""
        return list(self.query(Turn))

    def turn(self, node: Node) -> Turn | None:
        """The turn that shows a node."""
        return next((turn for turn in self.turns if turn.node is node), None)

    async def show_images(self, images: bool) -> None:
        """Show pictures from now on, or not."""
        if images != self.images:
            self.images = images
            async with self._drawing:
                await self.query(Turn).remove()

    async def show(self, conversation: Conversation) -> None:
        """Show the path as it is now; what is already there stays."""
        async with self._drawing:
            await self._draw(conversation)

    async def _draw(self, conversation: Conversation) -> None:
        if conversation is not self.conversation:
            self.conversation, self.window = conversation, WINDOW
        path = conversation.path()
        visible = path[-self.window :]
        turns = self.turns
        kept = 0
        if turns and visible and turns[0].node in path:
            offset = path.index(turns[0].node)
            visible = path[offset:]
            kept = sum(1 for _ in common(turns, visible))
        with self.app.batch_update():
            for turn in turns[kept:]:
                await turn.remove()
            await self.mount_all(self._make(node, path) for node in visible[kept:])
            await self._say_older(len(path) - len(visible))
            await self.query(Greeting).remove()
            if not path:
                await self.mount(Greeting(GREETING, markup=False))
        for turn in self.turns:
            turn.refresh_branches()

    async def show_older(self) -> None:
        """Bring WINDOW more turns, and leave those that are there where they are."""
        path, first = self.conversation.path(), self.turns[0]
        end = path.index(first.node)
        start = max(end - WINDOW, 0)
        self.window = len(path) - start
        await self.mount_all([self._make(node, path) for node in path[start:end]], before=first)
        await self._say_older(start)
        first.scroll_visible(animate=False, top=True)

    async def _say_older(self, count: int) -> None:
        await self.query(Older).remove()
        if count:
            await self.mount(Older(f"↑ {count} earlier — click, or PageUp at the top", markup=False), before=0)

    def _make(self, node: Node, path: list[Node]) -> Turn:
        if node.role == "assistant":
            return AnswerTurn(node)
        before = path[: path.index(node)]
        return QuestionTurn(node, 1 + sum(len(n.images) for n in before), self.images)

    def action_page_up(self) -> None:
        """Scroll up; at the top, bring older turns."""
        if self.scroll_y <= 0 and self.query(Older):
            self.run_worker(self.show_older(), group="log")
        else:
            super().action_page_up()


def common(turns: list[Turn], nodes: list[Node]) -> list[Turn]:
    """The turns that show the first nodes already."""
    kept = []
    for turn, node in zip(turns, nodes, strict=False):
        if turn.node is not node:
            break
        kept.append(turn)
    return kept
