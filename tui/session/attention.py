"""Attention maps of the last answer: what to request, and which event is the reply."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mlx_llava.engine.messages import AttentionMapped, Crashed, Event, Exchange, Failed, MapAttention
from mlx_llava.errors import UsageError
from mlx_llava.tui.session.conversation import Conversation, NumberedImage

AttentionEvent = AttentionMapped | Failed | Crashed


@dataclass(frozen=True)
class Subject:
    """What attention is mapped for: a conversation that ends in an answer, and its images."""

    exchanges: tuple[Exchange, ...]
    images: list[NumberedImage]


def subject(conversation: Conversation, images: Sequence[NumberedImage]) -> Subject:
    """Return the conversation up to the last answer; UsageError if the model got no image."""
    answer = next((node for node in reversed(conversation.answers) if node.text and node.parent), None)
    if answer is None or answer.parent is None:
        raise UsageError("there is no answer yet", "Ask something.")
    *earlier, last = conversation.exchanges(answer.parent)
    exchanges = (*earlier, replace(last, answer=answer.text))
    files = [file for exchange in exchanges for file in exchange.images]
    if not files:
        raise UsageError("the last answer saw no picture", "/image PATH attaches one.")
    return Subject(exchanges, [next(image for image in images if image.image.file is file) for file in files])


@dataclass(frozen=True)
class AttentionQuery:
    """A request for attention maps whose reply is pending."""

    number: int
    report: Callable[[AttentionEvent], None]
    """Gets the reply."""

    def reply(self, event: Event) -> AttentionEvent | None:
        """Return the event if it is the reply to this request."""
        match event:
            case AttentionMapped(number=number) | Failed(request=MapAttention(number=number)) if number == self.number:
                return event
            case Crashed():
                return event
            case _:
                return None
