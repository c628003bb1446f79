"""Cut growing Markdown into parts: otherwise a long list or code block is laid out again with every word.

Cuts are where they are invisible: before an item of a list, and between two lines of code, where each part gets its own
fence. The numbers of a list are as wide as its longest, so a list is first cut before item 11. Two cuts can be seen: a
list longer than 99 items shifts by a column, and colors of multi-line strings are lost. Text that may still become a
list mark or a rule is held back. A finished answer is drawn as one.
"""

import re

MIN_LINES = 20  # of a part before it may end
_ITEM = re.compile(r"(?:[-*+]|(?:1[1-9]|[2-9]\d|\d{3,9})[.)])[ \t]")
_PERHAPS_MARK = re.compile(r"[ \t]*(?:[-*+_][-*+_ \t]*|\d{1,9}[.)]?)?$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)$")


class Segments:
    def __init__(self) -> None:
        self._line = ""
        """The current, incomplete line."""
        self._held = 0
        """Characters at its end that are held back."""
        self._lines = 0
        """Lines in this part."""
        self._code = 0
        """Lines since the last fence."""
        self._blank = False
        """Whether the last line was blank."""
        self._fence = ""
        """The line that opened the current code block; empty outside."""

    def add(self, text: str) -> list[str]:
        """The new text in parts: the first continues the last part, each other starts a new one."""
        parts = [""]
        for piece in text.splitlines(keepends=True):
            self._line += piece
            self._held += len(piece)
            complete = self._line.endswith(("\n", "\r"))
            if not complete and not self._fence and _PERHAPS_MARK.match(self._line):
                continue
            if self._held == len(self._line) and self._ends_before(self._line):
                parts[-1] += _closing(self._fence)
                parts.append(self._fence)
                self._lines = self._code = 0
            parts[-1] += self._line[len(self._line) - self._held :]
            self._held = 0
            if complete:
                self._end_line()
        return parts

    def _ends_before(self, line: str) -> bool:
        """Whether the part is long enough and may end before this line: an unindented block's code, or a list item."""
        if self._fence:
            here = self._fence[0] != " " and not self._blank and line.strip() and not _FENCE.match(line)
            return self._code >= MIN_LINES and bool(here)
        return self._lines >= MIN_LINES and bool(_ITEM.match(line))

    def _end_line(self) -> None:
        match = _FENCE.match(self._line.rstrip("\r\n"))
        if self._fence:
            opened = _FENCE.match(self._fence)
            if match and opened and match[1].startswith(opened[1]) and not match[2].strip():
                self._fence = ""
        elif match and not (match[1][0] == "`" and "`" in match[2]):
            self._fence, self._code = self._line, 0
        self._blank = not self._line.strip()
        self._line, self._lines, self._code = "", self._lines + 1, self._code + 1


def _closing(fence: str) -> str:
    match = _FENCE.match(fence.rstrip("\r\n"))
    return f"{match[1]}\n" if match else ""
