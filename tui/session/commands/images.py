"""Commands about images."""

from collections.abc import Callable, Sequence

from mlx_llava.errors import UsageError
from mlx_llava.program.paths import expand_home
from mlx_llava.program.text import clean_line
from mlx_llava.tui.images.cover import cover_box, mean_color
from mlx_llava.tui.session import dialogs
from mlx_llava.tui.session.commands.command import number
from mlx_llava.tui.session.reply import Attach, Open, Reply, Say
from mlx_llava.tui.session.session import Session


def attach(_: Session, argument: str) -> Reply:
    from mlx_llava.tui.images.dropped import parse_drop

    if not argument:
        return Open(dialogs.Files(), "/image PATH attaches a picture to the next question")
    drop = parse_drop(argument)
    return Attach((expand_home(argument),)) if drop.text else Attach(drop.paths, drop.urls)


def show(session: Session, _: str) -> Reply:
    cost = session.model.image_tokens if session.model else None
    lines = []
    for image in session.images():
        width, height = image.image.size
        tokens = "off" if not image.on else f"{cost} tokens" if cost else ""
        where = "draft" if image.node is session.draft.node else "sent"
        lines.append(f"{image.number}  {image.image.name}  {width}×{height}  {tokens}  {where}")
    return Say("\n".join(lines) or "no pictures yet")


def switch(on: bool) -> Callable[[Session, str], Reply]:
    def run(session: Session, argument: str) -> Reply:
        image = session.image(number(argument))
        if image.on != on:
            session.switch(image.number)
        return Say(f"picture {image.number} is {'on' if on else 'off'}")

    return run


def drop(session: Session, argument: str) -> Reply:
    session.remove(number(argument))
    return Say(f"picture {argument} was removed")


def eyes(session: Session, _: str) -> Reply:
    if session.model is None or not session.images():
        raise UsageError("there is no picture, or no model yet", "/image PATH attaches one.")
    from mlx_llava.tui.images.eyes import loss, tokens, with_fit

    model = with_fit(session.model, session.settings.fit)
    lines = [
        f"{image.number}  {clean_line(image.image.name, 40)}: {model.fit}, "
        f"{loss(image.image.size, model.fit)}; {tokens(model, None)}"
        for image in session.images()
    ]
    return Open("eyes", "\n".join(lines))


def cover(session: Session, argument: str) -> Reply:
    last = len(session.images()) - len(session.draft.node.images)
    which, *sides = argument.split() or [str(max(last, 1))]
    image = session.image(number(which))
    if not image.on:
        raise UsageError(f"picture {image.number} is off", f"/on {image.number} switches it on.")
    if session.model is None or image.node is session.draft.node:
        raise UsageError("no question about that picture yet", "Ask first, then cover part of it.")
    if not sides:
        return Open(dialogs.Cover(image), "which part? /cover N LEFT TOP RIGHT BOTTOM, in percent")
    box = rectangle([number(side) for side in sides], image.image.size)
    return Open(dialogs.Compare(session.cover(image, cover_box(image.image, box, mean_color(session.model.mean)))))


def rectangle(sides: Sequence[int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Convert left, top, right and bottom from percent of an image's size to pixels."""
    if len(sides) != 4 or not (sides[0] < sides[2] <= 100 and sides[1] < sides[3] <= 100):
        raise UsageError("not a rectangle", "Give left, top, right and bottom in percent: /cover 1 0 0 50 100.")
    left, top, right, bottom = (round(side * size[n % 2] / 100) for n, side in enumerate(sides))
    return left, top, right, bottom


def attention(session: Session, argument: str) -> Reply:
    session.attention_subject()
    return Open(dialogs.Attention(number(argument) - 1 if argument else None))
