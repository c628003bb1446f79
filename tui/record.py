"""What is kept of a conversation while it happens."""

from mlx_llava.tui.conversation import Node


class Record:
    """Keeps nothing."""

    def new(self) -> None:
        """Another conversation begins."""

    def question(self, node: Node) -> None:
        """A question was asked."""

    def answer(self, node: Node) -> None:
        """An answer ended."""
