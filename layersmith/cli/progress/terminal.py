"""Painting rows on a terminal, over those of before. In: rows. Out: escape sequences, one write for a frame.

Nothing is erased before it is painted over, and a terminal that knows synchronized output shows whole frames only:
that is what keeps it from flickering. The cursor stays below the frame, so that whatever else is printed, and the
end of the process, find it where they expect it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.style import Style
from rich.text import Text

from layersmith.cli.progress.view import Row

STYLES = {
    "title": Style(bold=True),
    "dim": Style(dim=True),
    "ran": Style(color="green"),
    "cached": Style(color="cyan"),
    "failed": Style(color="red", bold=True),
    "running": Style(color="blue", bold=True),
    "warning": Style(color="yellow"),
}

BEGIN, END = "\x1b[?2026h", "\x1b[?2026l"
"""Synchronized output (DEC private mode 2026); terminals that don't know it pass over it."""

ERASE_LINE, ERASE_BELOW = "\x1b[K", "\x1b[J"


class Terminal:
    """The lower part of a terminal, from where the cursor is when the first frame comes."""

    def __init__(self, stream: TextIO, environ: Mapping[str, str]) -> None:
        self._stream = stream
        self._console = Console(file=stream, highlight=False, markup=False, emoji=False)
        self._reflows = reflows(environ)
        self._frame: list[int] = []

    def size(self) -> tuple[int, int]:
        """Columns and rows, as they are now."""
        columns, rows = os.get_terminal_size(self._stream.fileno())
        return columns or 80, rows or 24

    def paint(self, rows: Sequence[Row], *, above: Sequence[Row] = ()) -> None:
        """Put ``rows`` where the last frame was; ``above`` stays for good, and the frame goes below it."""
        columns, _ = self.size()
        kept = [self._line(row, columns, whole=not row.right) for row in above]
        lines = [self._line(row, columns) for row in rows]
        text = "".join(
            line + ERASE_LINE + "\n" for line in (*(k[0] for k in kept), *(line[0] for line in lines))
        )
        self._stream.write(BEGIN + self._back(columns) + text + ERASE_BELOW + END)
        self._stream.flush()
        self._frame = [line[1] for line in lines]

    def _back(self, columns: int) -> str:
        """To the beginning of the last frame. Terminals that reflow have broken its lines if they are narrower now."""
        rows = sum(max(1, -(-width // columns)) if self._reflows else 1 for width in self._frame)
        return f"\r\x1b[{rows}A" if rows else "\r"

    def _line(self, row: Row, columns: int, *, whole: bool = False) -> tuple[str, int]:
        """A row with its styles as escape sequences, and its width; cut to the terminal's unless it is to be ``whole``."""
        room = columns - 1  # a line that fills the last column leaves the cursor between two lines
        left = Text.assemble(*((text, STYLES.get(style, "")) for text, style in row.left))
        right = Text.assemble(*((text, STYLES.get(style, "")) for text, style in row.right))
        width = cell_len(right.plain)
        if not whole:
            if width > room // 2:
                right.truncate(room // 2, overflow="ellipsis")
                width = cell_len(right.plain)
            left.truncate(room - width - (1 if width else 0), overflow="ellipsis", pad=bool(width))
        with self._console.capture() as captured:
            text = Text.assemble(left, " " if width else "", right)
            self._console.print(text, end="", no_wrap=True, overflow="ignore", crop=False, soft_wrap=True)
        return captured.get(), cell_len(text.plain)


def reflows(environ: Mapping[str, str]) -> bool:
    """Whether the terminal breaks lines anew when it is made narrower, as most do; the old ones cut them."""
    if "TMUX" in environ or environ.get("TERM", "").startswith("tmux"):
        return True
    return "XTERM_VERSION" not in environ and not environ.get("TERM", "").startswith(
        ("linux", "rxvt", "screen", "vt")
    )
