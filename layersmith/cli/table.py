"""Text for a terminal: aligned tables, human sizes and times, and nothing that a terminal would take for a command.

In: values, and text that an image or an archive brought along. Out: lines.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from layersmith.cli.units import human_size

GAP = "   "
LONGEST_CELL = 45
"""What is longer is cut where a table truncates; the width that docker gives CREATED BY."""

# Control characters (C0, DEL, C1), what turns the writing direction, and lone surrogates: bytes that are not UTF-8.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str | bytes) -> str:
    """``text`` on one line, with what a terminal would act upon written as escapes: whoever made an image chose it."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    return _UNPRINTABLE.sub(_escape, text)


def terminal_safe(text: str) -> str:
    """As `printable`, but lines and tabs stay."""
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in text.split("\n"))


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    named = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(match[0])
    return named or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[str] = ()) -> str:
    """Columns under ``headers``, aligned to the left but for those named in ``right``. Cells are made `printable`."""
    lines = [list(headers), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(map(width, column)) for column in zip(*lines, strict=True)]
    to_right = [header in set(right) for header in headers]
    return "\n".join(
        GAP.join(
            " " * (room - width(cell)) + cell if flush else cell + " " * (room - width(cell))
            for cell, room, flush in zip(line, widths, to_right, strict=True)
        ).rstrip()
        for line in lines
    )


def width(text: str) -> int:
    """Columns that ``text`` takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def cut(text: str, longest: int = LONGEST_CELL) -> str:
    """``text``, shortened with an ellipsis to ``longest`` characters."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def short(digest: str) -> str:
    """The first twelve digits of a digest: enough to name it to a command."""
    return digest.removeprefix("sha256:")[:12]


def size(count: int | None) -> str:
    """Bytes as ``4.2MB``; a dash where nobody knows."""
    return "-" if count is None else human_size(count)


def ago(created: str | None, now: datetime | None = None) -> str:
    """How long ago an RFC 3339 time was, as docker says it; a dash for none, for the year 1, and for what is no time."""
    moment = parse_time(created)
    if moment is None or moment.year <= 1:
        return "-"
    seconds = int(((now or datetime.now(UTC)) - moment).total_seconds())
    if seconds < 0:
        return "in the future"
    hours = round(seconds / 3600)
    days = hours // 24
    if seconds < 60:
        return f"{_counted(seconds, 'second')} ago" if seconds else "just now"
    if seconds < 3600:
        return f"{_counted(seconds // 60, 'minute')} ago"
    if hours < 48:
        return f"{_counted(hours, 'hour')} ago"
    for unit, length, until in (("day", 1, 14), ("week", 7, 60), ("month", 30, 730)):
        if days < until:
            return f"{_counted(days // length, unit)} ago"
    return f"{_counted(days // 365, 'year')} ago"


def parse_time(text: str | None) -> datetime | None:
    """An RFC 3339 time; None for anything else."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _counted(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"
