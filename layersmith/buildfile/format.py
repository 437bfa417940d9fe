"""PARSE: ``layersmith fmt``. In: a Buildfile's text. Out: the same in one style, with the same meaning.

Instructions in upper case, single blanks between words, continuations indented by four, no trailing blanks, no two empty
lines in a row. Comments and heredoc bodies stay. So does the text of a command, blanks at the start of its lines
included: they are part of what the shell gets and of the step's cache key, and a tidier file is not worth a rebuild.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator

from layersmith.buildfile.expansion import SPACE
from layersmith.buildfile.instructions import Directives
from layersmith.buildfile.lines import LogicalLine, read_directives
from layersmith.buildfile.parser import Item, source_of, take_apart
from layersmith.buildfile.syntax import Form
from layersmith.dataclass import dataclass
from layersmith.errors import BuildfileSyntaxError
from layersmith.source import Source

INDENT = "    "

_JSON_PART = re.compile(r'\[|\]|"(?:[^"\\]|\\.)*"\s*,?')
_BLANKS = re.compile(r"[ \t]*")
_WORD = re.compile(r"[^\t\v\f\r ]+")


def fmt(text: str | bytes, name: str = "Buildfile") -> str:
    """``text`` in the canonical style. Formatting twice changes nothing more. Raises `BuildfileSyntaxError`."""
    source = source_of(text, name)
    file = take_apart(source)
    physical = source.text.split("\n")
    lines: list[str] = []
    read = 0
    for item in file.items:
        lines += _between(physical[read : item.line.line - 1])
        written = _instruction(item, file.directives.escape)
        lines += written[1:] if lines[-1:] == [""] == written[:1] else written
        read = max(item.line.end_line, item.instruction.span.end_line)
        lines += physical[item.line.end_line : read]
    lines += _between(physical[read:])
    while lines and not lines[-1]:
        lines.pop()
    begin = 0 if not lines or lines[0] else 1
    result = "".join(line + "\n" for line in lines[begin:])
    # An empty line above may have kept a comment from being a directive.
    return result if _has_directives(result, file.directives) else "\n" + result


def _has_directives(text: str, directives: Directives) -> bool:
    try:
        return read_directives(Source("", text)) == directives
    except BuildfileSyntaxError:
        return False


def _between(physical: list[str]) -> list[str]:
    """The comments between instructions, with one empty line at most where there were some."""
    lines: list[str] = []
    for line in physical:
        text = line.strip(SPACE)
        if text.startswith("#"):
            lines.append(text)
        elif not lines or lines[-1]:
            lines.append("")
    return lines


@dataclass(frozen=True, slots=True)
class _Token:
    """``line.text[start:end]``, to be written as ``text`` if that is given; ``glued`` to the one before."""

    start: int
    end: int
    text: str | None = None
    glued: bool = False


def _instruction(item: Item, escape: str) -> list[str]:
    """The physical lines of an instruction, without its heredoc bodies."""
    writer = _Writer(item.line, escape)
    for token in _tokens(item.line, item.form):
        writer.add(token)
    return writer.finished()


def _tokens(line: LogicalLine, form: Form) -> list[_Token]:
    """What stands in ``line``, in order. Terminals that the form leaves out are found between those it has."""
    if form.inner is not None:
        # A trigger's text goes into the image as it is written.
        keyword = _WORD.match(line.text)
        assert keyword
        start = len(line.text) - len(line.text[keyword.end() :].lstrip(SPACE))
        return [_Token(0, keyword.end(), keyword[0].upper()), _Token(start, len(line.text))]
    known: list[_Token] = []
    for name, value in form.flags:
        known.append(_Token(name.start, value.end if value else name.end))
    words = form.words
    if words and words[0].kind != "JSON" and (words[0].text[0] == "[" or words[0].text[-1] in "\\`"):
        # A blank may be all that keeps this from being JSON, or another word.
        known.append(_Token(words[0].start, len(line.text)))
        words = ()
    for word in words:
        if word.kind == "JSON":
            known += _json_tokens(word.start, word.text)
        elif word.kind in ("NONE", "UNSET_KIND") and "-" not in word.text:
            known.append(_Token(word.start, word.end, word.text.upper()))
        else:
            known.append(_Token(word.start, word.end))
    found: list[_Token] = []
    position = 0
    for token in [*sorted(known, key=lambda token: token.start), _Token(len(line.text), len(line.text))]:
        found += _hidden(line.text, position, token.start)
        if token.start < token.end:
            found.append(token)
        position = max(position, token.end)
    return found


def _hidden(text: str, start: int, end: int) -> Iterator[_Token]:
    """The instruction's name, AS, CMD, ``--`` and flags that are ignored, in ``text[start:end]``."""
    if start == 0:
        keyword = _WORD.match(text)
        assert keyword
        yield _Token(0, keyword.end(), keyword[0].upper())
        start = keyword.end()
    bare = text[start:end].strip(SPACE)
    if bare:
        begin = text.index(bare, start)
        yield _Token(begin, begin + len(bare), bare.upper() if bare.lower() in ("as", "cmd") else None)


def _json_tokens(start: int, text: str) -> Iterator[_Token]:
    after_bracket = False
    for match in _JSON_PART.finditer(text):
        begin, part = start + match.start(), match[0]
        if part.startswith('"'):
            string = part.rstrip(", \t\r")
            yield _Token(begin, begin + len(string), glued=after_bracket)
            if part.endswith(","):
                yield _Token(start + match.end() - 1, start + match.end(), ",", glued=True)
        else:
            yield _Token(begin, start + match.end(), part, glued=part == "]")
        after_bracket = part == "["


class _Writer:
    """Lays tokens out: on one line where the user had them on one, else on a continuation."""

    def __init__(self, line: LogicalLine, escape: str) -> None:
        self.line = line
        self.escape = escape
        self.comments = deque(line.inner_comments)
        self.lines: list[str] = []
        self.current = ""
        self.at = line.places[0][0]
        """The line of the file that ``current`` has come to."""
        if self.comments and self.comments[0].line < self.at:
            self.lines.append(
                ""
            )  # set off, so that a comment from before the first word does not turn directive
        self._take_comments("")

    def add(self, token: _Token) -> None:
        place = self.line.place(token.start)[0]
        if self.current and place > self.at and token.text != ",":
            self._break(self.current + " ", place, INDENT)
            self.current = INDENT
        elif self.current and not token.glued:
            self.current += " "
        self.at = max(self.at, place)
        if token.text is None:
            self._verbatim(token.start, token.end)
        else:
            self.current += token.text

    def _verbatim(self, start: int, end: int) -> None:
        """``text[start:end]`` with the line breaks that are inside it, for blanks around these may matter.

        Of several blanks before a continuation the first stays there and the others begin the next line: that is the
        same text, too.
        """
        text = self.line.text
        starts = self.line.starts
        boundaries = starts[bisect_right(starts, start) : bisect_left(starts, end)]
        for index, boundary in enumerate(boundaries):
            following = boundaries[index + 1] if index + 1 < len(boundaries) else end
            if not text[boundary:following].strip(" \t"):
                continue  # a line of blanks only: the next boundary is the end of the same run of blanks
            before = text[start:boundary].rstrip(" \t")
            cut = min(start + len(before) + 1, boundary)
            if cut <= boundary and text[cut - 1] not in " \t":
                cut = start + len(before)
            indent = _BLANKS.match(text, cut)
            assert indent
            self._break(self.current + text[start:cut], self.line.place(boundary)[0], indent[0] or INDENT)
            self.current = ""
            start = cut
        self.current += text[start:end]

    def _break(self, written: str, place: int, indent: str) -> None:
        self.lines.append(written + self.escape)
        self.at = place
        self._take_comments(indent)

    def _take_comments(self, indent: str) -> None:
        while self.comments and self.comments[0].line < self.at:
            self.lines.append(indent + self.comments.popleft().text)

    def finished(self) -> list[str]:
        last = self.current
        bare = last.rstrip(" \t")
        if bare.endswith(self.escape) and not bare.endswith(self.escape * 2):
            last += "\f"  # it was followed by another odd blank, which kept it from being a continuation
        return [*self.lines, last, *(comment.text for comment in self.comments)]
