"""The question being put together: its images, and the turn that is being edited."""

from mlx_llava.tui.images.attachments import Attachment
from mlx_llava.tui.session.conversation import Node


class Draft:
    """The images of the next question, and what it replaces."""

    def __init__(self) -> None:
        self.node = Node("user")
        self.editing: Node | None = None
        """The question that the draft will replace, or the answer being corrected."""
        self._before_editing = self.node

    @property
    def question(self) -> Node | None:
        """The question being edited, if any."""
        return self.editing if self.editing and self.editing.role == "user" else None

    @property
    def answer(self) -> Node | None:
        """The answer being corrected, if any."""
        return self.editing if self.editing and self.editing.role == "assistant" else None

    def attach(self, image: Attachment) -> None:
        self.node.images += (image,)

    def remove(self, place: int) -> None:
        images = self.node.images
        off = {n - (n > place) for n in self.node.off - {place}}
        self.node = Node("user", images=images[:place] + images[place + 1 :], off=off)

    def edit(self, node: Node | None) -> None:
        """Edit a question, whose images become the draft's, or an answer; None ends editing."""
        if self.question:
            self.node = self._before_editing
        self.editing = node
        if question := self.question:
            self._before_editing, self.node = self.node, Node("user", images=question.images, off={*question.off})

    def take_images(self) -> tuple[Attachment, ...]:
        """Empty the draft and end editing; returns the images that are switched on."""
        images = self.node.active_images
        self.node = Node("user")
        self.edit(None)
        return images
