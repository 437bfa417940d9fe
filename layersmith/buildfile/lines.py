"""PARSE, first stage: what a grammar can't say. In: a text. Out: directives, logical lines, heredoc bodies.

A logical line is an instruction on one line: continuations joined, comments and empty lines inside it dropped, blanks
at both ends removed. It remembers where in the file each of its characters stood. Rules: BuildKit, parser/parser.go.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator

from layersmith.buildfile.expansion import SPACE
from layersmith.buildfile.instructions import Check, Directives, Heredoc
from layersmith.buildfile.words import bare_words, raw_words
from layersmith.dataclass import dataclass
from layersmith.errors import BuildfileSyntaxError, ExpansionError
from layersmith.source import Source, Span

DIRECTIVE = re.compile(rf"#[{SPACE}]*([a-zA-Z][a-zA-Z0-9]*)[{SPACE}]*=[{SPACE}]*(.*[^{SPACE}])")
MOST_HEREDOCS = 1000
KNOWN_DIRECTIVES = ("syntax", "escape", "check")


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment's ``text``, from its ``#`` on, and the line it stands on."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class LogicalLine:
    """One instruction's ``text``. ``comments`` are those right before it, ``inner_comments`` those inside it."""

    source: Source
    text: str
    starts: tuple[int, ...]
    """Offsets in ``text`` where another physical line's part begins; the first is 0."""
    places: tuple[tuple[int, int], ...]
    """(line, column) in the file of each of ``starts``, 1-based."""
    line: int
    end_line: int
    comments: tuple[Comment, ...]
    inner_comments: tuple[Comment, ...]
    empty_lines: tuple[int, ...]
    """Empty lines between continuations: BuildKit warns of them."""

    def place(self, offset: int) -> tuple[int, int]:
        """(line, column) of the character at ``offset``."""
        part = bisect_right(self.starts, offset) - 1
        line, column = self.places[part]
        return line, column + offset - self.starts[part]

    def span(self, start: int = 0, end: int | None = None) -> Span:
        """The span of ``text[start:end]`` in the file, never empty where there is a character to show."""
        end = len(self.text) if end is None else end
        start = max(0, min(start, len(self.text) - 1))
        line, column = self.place(start)
        end_line, end_column = self.place(max(start, end - 1))
        return Span(self.source, line, column, end_line, end_column + 1)


class Lines:
    """A cursor over a file. Iterating gives logical lines; `heredocs` then takes the bodies that follow the last one."""

    def __init__(self, source: Source, escape: str) -> None:
        self.source = source
        self.escape = escape
        self.physical = source.text.removesuffix("\n").split("\n")
        self.next = 0
        """Index of the first physical line not yet read."""
        self.trailing: tuple[Comment, ...] = ()
        """After the last instruction: the comments that no instruction follows."""

    def __iter__(self) -> Iterator[LogicalLine]:
        comments: list[Comment] = []
        while self.next < len(self.physical):
            text = self.physical[self.next].lstrip(SPACE)
            if text.startswith("#"):
                comments.append(Comment(self.next + 1, text.rstrip(SPACE)))
                self.next += 1
            elif not text:
                comments.clear()
                self.next += 1
            else:
                line = self._logical_line(tuple(comments))
                comments.clear()
                if line:
                    yield line
        self.trailing = tuple(comments)

    def _logical_line(self, comments: tuple[Comment, ...]) -> LogicalLine | None:
        first = self.next
        parts: list[tuple[int, int, str]] = []
        inner: list[Comment] = []
        empty: list[int] = []
        continues = True
        while continues and self.next < len(self.physical):
            text = self.physical[self.next].rstrip("\r")
            self.next += 1
            bare = text.strip(SPACE)
            if parts and bare.startswith("#"):
                inner.append(Comment(self.next, bare))
            elif parts and not bare:
                empty.append(self.next)
            else:
                text, continues = self._without_continuation(text)
                parts.append((self.next, 1, text))
        joined = _stripped(parts)
        if not joined:
            return None
        starts = [0]
        for _, _, text in joined[:-1]:
            starts.append(starts[-1] + len(text))
        return LogicalLine(
            self.source,
            "".join(text for _, _, text in joined),
            tuple(starts),
            tuple((line, column) for line, column, _ in joined),
            first + 1,
            self.next,
            comments,
            tuple(inner),
            tuple(empty),
        )

    def _without_continuation(self, text: str) -> tuple[str, bool]:
        """A doubled escape at the line's end is no continuation."""
        bare = text.rstrip(" \t")
        if bare.endswith(self.escape) and not bare.endswith(self.escape * 2):
            return bare[:-1], True
        return text, False

    def heredocs(self, line: LogicalLine) -> tuple[Heredoc, ...]:
        """The heredocs that ``line`` opens, with their bodies, which begin on the line after it.

        Raises `BuildfileSyntaxError` if the file ends before one does.
        """
        if line.text.count("<<") > MOST_HEREDOCS:
            raise BuildfileSyntaxError(f"a line may hold << {MOST_HEREDOCS} times at most", span=line.span())
        return tuple(self._with_body(opened, line) for opened in opened_heredocs(line.text))

    def end_of(self, line: LogicalLine) -> tuple[int, int]:
        """(line, column) behind the last character of ``line`` and its heredocs, once these are read."""
        if self.next == line.end_line:
            last = line.span()
            return last.end_line, last.end_column
        return self.next, len(self.physical[self.next - 1].rstrip("\r")) + 1

    def _with_body(self, opened: Heredoc, line: LogicalLine) -> Heredoc:
        begin = self.next
        for index in range(begin, len(self.physical)):
            text = self.physical[index].rstrip("\r")
            if (text.lstrip("\t") if opened.strip_tabs else text) == opened.name:
                self.next = index + 1
                raw = "".join(text + "\n" for text in self.physical[begin:index])
                body = re.sub(r"^\t+", "", raw, flags=re.MULTILINE) if opened.strip_tabs else raw
                return Heredoc(
                    opened.name, body, opened.expand, opened.strip_tabs, opened.fd, word=opened.word, raw=raw
                )
        self.next = len(self.physical)
        at = line.text.find(opened.word)
        raise BuildfileSyntaxError(
            f"unterminated heredoc: no line is just {opened.name!r}",
            hint="the delimiter stands alone on its line, not even followed by blanks"
            + ("" if opened.strip_tabs else "; only <<- allows tabs before it"),
            span=line.span(at, at + len(opened.word)),
        )


def _stripped(parts: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """``parts`` (line, column, text) without blanks at both ends, nor parts that are empty then."""
    filled = [index for index, (_, _, text) in enumerate(parts) if text.strip(SPACE)]
    if not filled:
        return []
    parts = parts[filled[0] : filled[-1] + 1]
    line, column, text = parts[0]
    bare = text.lstrip(SPACE)
    parts[0] = (line, column + len(text) - len(bare), bare)
    line, column, text = parts[-1]
    parts[-1] = (line, column, text.rstrip(SPACE))
    return parts


_HEREDOC = re.compile(rf"(\d*)<<(-?)[{SPACE}]*([^<]+)", re.ASCII)


def opened_heredocs(text: str) -> list[Heredoc]:
    """The heredocs, yet without bodies, that a logical line opens. Text whose quotes do not match opens none."""
    if "<<" not in text:
        return []
    try:
        words = raw_words(text)
    except ExpansionError:
        return []
    return [heredoc for word in words if (heredoc := heredoc_of(word))]


def heredoc_of(word: str) -> Heredoc | None:
    """The heredoc that ``word`` opens (``3<<-"NAME"``), if it is one word and does. Quotes anywhere turn off expansion."""
    match = _HEREDOC.fullmatch(word)
    if not match:
        return None
    fd, dash, delimiter = match.groups()
    try:
        raw = raw_words(delimiter)
        names = bare_words(delimiter)
    except ExpansionError:
        return None
    if len(raw) != 1 or len(names) != 1:
        return None
    quotes = sum(map(raw[0].count, "'\"")) - raw[0].count("\\'") - raw[0].count('\\"')
    return Heredoc(names[0], "", expand=not quotes, strip_tabs=bool(dash), fd=int(fd[:9] or 0), word=word)


def read_directives(source: Source) -> Directives:
    """The parser directives at the file's very start. Raises `BuildfileSyntaxError` for a repeated or bad one.

    A first line ``#!`` is passed over; any other line that is no known directive ends them.
    """
    found: dict[str, str] = {}
    check: Check | None = None
    for number, line in enumerate(source.text.split("\n"), start=1):
        text = line.strip(SPACE)
        match = DIRECTIVE.fullmatch(text)
        key = match[1].lower() if match else ""
        if not match or key not in KNOWN_DIRECTIVES:
            if number == 1 and text.startswith("#!"):
                continue
            break
        value = match[2]
        span = Span(source, number, 1, number, len(line.rstrip("\r")) + 1)
        if key in found:
            raise BuildfileSyntaxError(
                f"only one {key} parser directive can be used",
                hint="the first is on a line above; remove one of the two",
                span=span,
            )
        if key == "escape" and value not in ("\\", "`"):
            raise BuildfileSyntaxError(
                f"invalid escape token {value!r}: it is neither ` nor \\",
                hint="write `# escape=\\` or `# escape=``",
                span=span,
            )
        if key == "check":
            check = read_check(value, span)
        found[key] = value
    syntax = found.get("syntax", "").partition(" ")[0].strip(SPACE)
    return Directives(syntax or None, found.get("escape", "\\"), check)


def read_check(value: str, span: Span) -> Check:
    """``skip=A,B;error=true;experimental=all`` of a ``# check=`` directive. Raises `BuildfileSyntaxError`."""
    lists: dict[str, tuple[str, ...]] = {"skip": (), "experimental": ()}
    error = False
    for option in filter(None, value.split(";")):
        key, equals, given = (part.strip(SPACE) for part in option.partition("="))
        if key in lists and equals:
            lists[key] = tuple(name.strip(SPACE) for name in given.split(","))
        elif key == "error" and given.lower() in ("true", "false", "1", "0", "t", "f"):
            error = given.lower() in ("true", "1", "t")
        else:
            raise BuildfileSyntaxError(
                f"invalid check option {option!r}",
                hint="options are skip=RULE,…|all, error=true|false and experimental=RULE,…|all, with ; between them",
                span=span,
            )
    skip, experimental = lists["skip"], lists["experimental"]
    return Check(
        skip=() if skip == ("all",) else skip,
        skip_all=skip == ("all",),
        error=error,
        experimental=() if experimental == ("all",) else experimental,
        experimental_all=experimental == ("all",),
    )
