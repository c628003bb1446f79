"""Images in the terminal by the Kitty graphics protocol, in Unicode placeholders: cells that scroll like text.

https://sw.kovidgoyal.net/kitty/graphics-protocol/, "Unicode placeholders"
"""

import base64
import os
import random
import re
import select
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from rich.color import Color
from rich.segment import Segment
from rich.style import Style

if TYPE_CHECKING:
    from PIL import Image

WAIT = 0.15  # seconds until a reply begins; terminals took 0.3 to 4.5 ms
WAIT_REMOTE = 1.0  # … over SSH
WAIT_MORE = 0.5  # seconds until it continues
CHUNK = 4096  # bytes of base64 in one sequence: the protocol's limit
PROBE_ID = 31
PLACEHOLDER = "\U0010eeee"
# The diacritics that number the rows and columns of placeholders: kitty, gen/rowcolumn-diacritics.txt
_RANGES = """
    305 30d-30e 310 312 33d-33f 346 34a-34c 350-352 357 35b 363-36f 483-487 592-595 597-599 59c-5a1 5a8-5a9 5ab-5ac
    5af 5c4 610-617 657-65b 65d-65e 6d6-6dc 6df-6e2 6e4 6e7-6e8 6eb-6ec 730 732-733 735-736 73a 73d 73f-741 743 745
    747 749-74a 7eb-7f1 7f3 816-819 81b-823 825-827 829-82d 951 953-954 f82-f83 f86-f87 135d-135f 17dd 193a 1a17
    1a75-1a7c 1b6b 1b6d-1b73 1cd0-1cd2 1cda-1cdb 1ce0 1dc0-1dc1 1dc3-1dc9 1dcb-1dcc 1dd1-1de6 1dfe 20d0-20d1
    20d4-20d7 20db-20dc 20e1 20e7 20e9 20f0 2cef-2cf1 2de0-2dff a66f a67c-a67d a6f0-a6f1 a8e0-a8f1 aab0 aab2-aab3
    aab7-aab8 aabe-aabf aac1 fe20-fe26 10a0f 10a38 1d185-1d189 1d1aa-1d1ad 1d242-1d244
"""
_ENDS = [part.partition("-") for part in _RANGES.split()]
MARKS = "".join(chr(code) for first, _, last in _ENDS for code in range(int(first, 16), int(last or first, 16) + 1))

PROBE = (
    f"\x1b_Gi={PROBE_ID},s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\"  # queries support for an image of one pixel
    "\x1b[>q"  # name and version of the terminal
    "\x1b[c"  # device attributes: every terminal answers this, and last
)
# the replies, with either string terminator
_REPLIES = {
    "graphics": re.compile(rf"\x1b_Gi={PROBE_ID};([^\x1b]*)\x1b\\"),
    "version": re.compile(r"\x1bP>\|([^\x1b\x07]*)(?:\x1b\\|\x07)"),
    "attributes": re.compile(r"\x1b\[\?([\d;]*)c"),
}
_UNFINISHED = re.compile(r"\x1b(?:[_P\[][^\x07]*)?\Z")
# terminals that support placeholders; kitty does since _SINCE
_KNOWN = re.compile(r"(kitty)\((\d+)\.(\d+)|(ghostty)", re.IGNORECASE)
_SINCE = (0, 28)


@dataclass(frozen=True)
class TerminalReply:
    """What a terminal supports, by its own account."""

    complete: bool = False
    """Whether the last reply has arrived."""
    graphics: bool = False
    version: str = ""
    """Name and version as the terminal reports them."""
    rest: str = ""
    """Keys typed in the meantime."""

    @property
    def placeholders(self) -> bool:
        """Whether images can be drawn in placeholders."""
        known = _KNOWN.match(self.version)
        return self.graphics and known is not None and (not known[1] or (int(known[2]), int(known[3])) >= _SINCE)


def parse_reply(text: str) -> TerminalReply:
    """Parse the replies to PROBE; while the result is not complete, call it again with more text."""
    matches = {name: pattern.search(text) for name, pattern in _REPLIES.items()}
    rest = text
    for pattern in _REPLIES.values():
        rest = pattern.sub("", rest)
    rest = _UNFINISHED.sub("", rest)
    graphics, version = matches["graphics"], matches["version"]
    return TerminalReply(
        complete=matches["attributes"] is not None,
        graphics=graphics is not None and graphics[1] == "OK",
        version=version[1] if version else "",
        rest=rest,
    )


def reply_timeout(environment: Mapping[str, str]) -> float:
    """Seconds to wait for a terminal's reply."""
    return WAIT_REMOTE if environment.get("SSH_CONNECTION") else WAIT


def multiplexed(environment: Mapping[str, str]) -> bool:
    """Whether tmux or screen is in between: they take the probe for a window title."""
    return "TMUX" in environment or environment.get("TERM", "").startswith(("tmux", "screen"))


def query_terminal(terminal: int, timeout: float) -> TerminalReply:
    """Query the terminal behind a file descriptor; keys typed in the meantime are in the reply's `rest`."""
    import termios  # not on Windows
    import tty

    before, text, deadline = termios.tcgetattr(terminal), b"", time.monotonic() + timeout
    try:
        tty.setraw(terminal, termios.TCSADRAIN)
        os.write(terminal, PROBE.encode())
        while (left := deadline - time.monotonic()) > 0 and select.select([terminal], [], [], left)[0]:
            new = os.read(terminal, 4096)
            text += new
            deadline = time.monotonic() + WAIT_MORE
            if not new or parse_reply(text.decode(errors="replace")).complete:
                break
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
    return parse_reply(text.decode(errors="replace"))


class Kitty:
    """The images transmitted to a terminal, under random ids that other programs are unlikely to use."""

    def __init__(self, write: Callable[[str], None]) -> None:
        """`write` sends text to the terminal, in order with everything else on screen."""
        self._write = write
        self._last_number = random.getrandbits(24)
        self._ids: set[int] = set()

    def show(self, pil_image: "Image.Image", columns: int, rows: int) -> tuple[int, list[list[Segment]]]:
        """Transmit an image; returns its id and the placeholder cells it is drawn in."""
        self._last_number += 1
        image = image_id(self._last_number)
        file = BytesIO()
        pil_image.save(file, "PNG", compress_level=1)
        for sequence in transmit(image, file.getvalue(), columns, rows):
            self._write(sequence)
        self._ids.add(image)
        return image, placeholders(image, columns, rows)

    def forget(self, image: int) -> None:
        """Delete a transmitted image."""
        if image in self._ids:
            self._ids.remove(image)
            self._write(delete(image))

    def close(self) -> None:
        """Delete all transmitted images."""
        for image in [*self._ids]:
            self.forget(image)


def image_id(number: int) -> int:
    """A number as an image id: 24 bits, never 0, because the id travels as a color."""
    return number % 0xFFFFFF + 1


def transmit(image: int, png: bytes, columns: int, rows: int) -> Iterator[str]:
    """Sequences that transmit a PNG, to be drawn in `columns` x `rows` placeholder cells."""
    columns, rows = min(columns, len(MARKS)), min(rows, len(MARKS))
    data = base64.standard_b64encode(png).decode()
    chunks = [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)] or [""]
    head = f"a=T,U=1,f=100,t=d,q=2,i={image},c={columns},r={rows},"
    for number, chunk in enumerate(chunks, 1):
        yield f"\x1b_G{head}m={int(number < len(chunks))};{chunk}\x1b\\"
        head = "q=2,"


def placeholders(image: int, columns: int, rows: int) -> list[list[Segment]]:
    """Lines of cells that the terminal draws an image in; each cell encodes its row and column."""
    style = Style.from_color(Color.from_rgb(image >> 16 & 0xFF, image >> 8 & 0xFF, image & 0xFF))
    across = MARKS[:columns]
    return [[Segment("".join(PLACEHOLDER + row + column for column in across), style)] for row in MARKS[:rows]]


def delete(image: int) -> str:
    """The sequence that deletes an image."""
    return f"\x1b_Ga=d,d=I,q=2,i={image}\x1b\\"
