"""An answer in Markdown, cut while it grows: a long list or a long block of code would be drawn anew with every word.

Cut where it need not show: before an item of a list, and between two lines of code, each part of which gets a fence
of its own. All numbers of a list are as wide as the longest, so it is cut after 10; that one longer than 99 moves by a
column at its end shows, as do colours of strings over several lines. What may yet become the mark of an item or a rule
is held back. Once an answer has ended it is drawn as one.
"""

import re

LONG = 20  # lines in one part before it may end
_ITEM = re.compile(r"(?:[-*+]|(?:1[1-9]|[2-9]\d|\d{3,9})[.)])[ \t]")
_PERHAPS_MARK = re.compile(r"[ \t]*(?:[-*+_][-*+_ \t]*|\d{1,9}[.)]?)?$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)$")


class Segments:
    """Cuts text that grows."""

    def __init__(self) -> None:
        self._line = ""
        """The line that is not at its end yet."""
        self._held = 0
        """How many characters at its end have not been given out."""
        self._lines = 0
        """How many there are in this part."""
        self._code = 0
        """How many of them since its last fence."""
        self._blank = False
        """Whether the last one was empty."""
        self._fence = ""
        """The line that opened the block of code we are in."""

    def add(self, text: str) -> list[str]:
        """Parts of what is new: the first goes on where the last one ended, every other begins anew."""
        parts = [""]
        for piece in text.splitlines(keepends=True):
            self._line += piece
            self._held += len(piece)
            whole = self._line.endswith(("\n", "\r"))
            if not whole and not self._fence and _PERHAPS_MARK.match(self._line):
                continue
            if self._held == len(self._line) and self._ends_before(self._line):
                parts[-1] += _closing(self._fence)
                parts.append(self._fence)
                self._lines = self._code = 0
            parts[-1] += self._line[len(self._line) - self._held :]
            self._held = 0
            if whole:
                self._end_line()
        return parts

    def _ends_before(self, line: str) -> bool:
        """Whether this part is long enough, and may end before a line: in code that is not indented, or at an item."""
        if self._fence:
            here = self._fence[0] != " " and not self._blank and line.strip() and not _FENCE.match(line)
            return self._code >= LONG and bool(here)
        return self._lines >= LONG and bool(_ITEM.match(line))

    def _end_line(self) -> None:
        found = _FENCE.match(self._line.rstrip("\r\n"))
        if self._fence:
            opened = _FENCE.match(self._fence)
            if found and opened and found[1].startswith(opened[1]) and not found[2].strip():
                self._fence = ""
        elif found and not (found[1][0] == "`" and "`" in found[2]):
            self._fence, self._code = self._line, 0
        self._blank = not self._line.strip()
        self._line, self._lines, self._code = "", self._lines + 1, self._code + 1


def _closing(fence: str) -> str:
    """What closes a block of code."""
    found = _FENCE.match(fence.rstrip("\r\n"))
    return f"{found[1]}\n" if found else ""
