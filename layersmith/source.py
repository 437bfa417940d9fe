"""Where something stands in a text: `Source` (a named text) and `Span` (a range in it).

Both are carried beside values and never take part in their equality or in a cache key.
"""

from __future__ import annotations

from layersmith.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Source:
    """A text with the name that a person knows it by (``Buildfile``, ``sub/common.build``, ``<stdin>``)."""

    name: str
    text: str

    def line(self, number: int) -> str:
        """Line ``number`` (1-based) without its line end, or ``""`` past the end."""
        lines = self.text.split("\n")
        return lines[number - 1].rstrip("\r") if 1 <= number <= len(lines) else ""


@dataclass(frozen=True, slots=True)
class Span:
    """A range in a `Source`. Lines and columns are 1-based; columns count characters; the end is exclusive."""

    source: Source
    line: int
    column: int
    end_line: int
    end_column: int

    def __str__(self) -> str:
        return f"{self.source.name}:{self.line}:{self.column}"

    def excerpt(self, *, around: int = 1, most: int = 6) -> str:
        """The spanned lines and ``around`` more on each side, the guilty ones marked ``>>>``."""
        last = min(self.end_line, self.line + most - 1)
        total = self.source.text.count("\n") + 1
        rows = []
        for number in range(max(1, self.line - around), min(total, last + around) + 1):
            mark = ">>>" if self.line <= number <= last else "   "
            text = self.source.line(number)
            if len(text) > 200:
                text = text[:197] + "..."
            rows.append(f"{mark} {number:4} | {text}".rstrip())
        return "\n".join(rows)
