"""The question where the last answer looked, on its way to the engine and back."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlx_llava.engine.messages import AttentionMapped, Crashed, Event, Exchange, Failed, MapAttention
from mlx_llava.errors import UsageError
from mlx_llava.tui.session.conversation import Numbered

if TYPE_CHECKING:
    from mlx_llava.tui.session.session import Session

LookEvent = AttentionMapped | Failed | Crashed


@dataclass(frozen=True)
class Looking:
    """A look that somebody waits for; the session tells it what happens."""

    number: int
    tell: Callable[[LookEvent], None]

    def told(self, event: Event) -> bool:
        """Pass on what came of it, if this is that; whether it was."""
        match event:
            case AttentionMapped(number=number) | Failed(request=MapAttention(number=number)) if number == self.number:
                self.tell(event)
            case Crashed():
                self.tell(event)
            case _:
                return False
        return True


def seen(session: "Session") -> tuple[tuple[Exchange, ...], list[Numbered]]:
    """The conversation up to the last answer, and its pictures; UsageError where the model saw none."""
    answer = next((node for node in reversed(session.conversation.answers) if node.text and node.parent), None)
    if answer is None or answer.parent is None:
        raise UsageError("there is no answer yet", "Ask something.")
    *before, last = session.conversation.exchanges(answer.parent)
    exchanges = (*before, replace(last, answer=answer.text))
    shown = [shown for exchange in exchanges for shown in exchange.images]
    if not shown:
        raise UsageError("the last answer saw no picture", "/image PATH attaches one.")
    images = session.images()
    return exchanges, [next(p for p in images if p.image.file is one) for one in shown]


def look(session: "Session", tell: Callable[[LookEvent], None]) -> None:
    """Find out where the last answer looked; `tell` gets what comes of it."""
    session.check_free()
    exchanges, _ = seen(session)
    session.looking = Looking(session.next_number(), tell)
    session.engine.send(MapAttention(session.looking.number, exchanges, session.answer_settings()))


def look_away(session: "Session") -> None:
    """Nobody waits for it any more."""
    looking, session.looking = session.looking, None
    if looking:
        session.engine.stop(looking.number)
