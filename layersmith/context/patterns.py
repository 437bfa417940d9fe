"""CONTEXT: path patterns. In: patterns as Go's filepath.Match and moby/patternmatcher read them. Out: matchers.

Two dialects share one translator. `compile_glob` is filepath.Match of one path segment (wildcards of COPY). `Patterns`
is an ordered list with ``!``, ``**`` and "a match covers what is below" (.dockerignore, ``--exclude``, ``--parents``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from layersmith.dataclass import dataclass

WILDCARDS = frozenset("*?[")
State = tuple[bool, ...]
"""Per pattern, whether it matched the directory: what `Patterns.match` wants for the directory's children."""


class PatternError(ValueError):
    """A pattern that filepath.Match calls malformed."""


def has_wildcard(pattern: str) -> bool:
    """Whether an unescaped ``*``, ``?`` or ``[`` occurs."""
    return bool(WILDCARDS & set(re.sub(r"\\.", "", pattern, flags=re.DOTALL)))


def unescape(pattern: str) -> str:
    """The literal that a pattern without wildcards stands for."""
    return re.sub(r"\\(.)", r"\1", pattern, flags=re.DOTALL)


def clean(path: str) -> str:
    """Go's filepath.Clean: ``.``, ``..`` and repeated slashes are gone; the empty path is ``.``."""
    rooted = path.startswith("/")
    parts: list[str] = []
    for part in path.split("/"):
        if part in ("", "."):
            continue
        if part != "..":
            parts.append(part)
        elif parts and parts[-1] != "..":
            parts.pop()
        elif not rooted:
            parts.append("..")
    return "/" + "/".join(parts) if rooted else "/".join(parts) or "."


def compile_glob(pattern: str) -> re.Pattern[str]:
    """filepath.Match of a whole segment.

    Raises:
        PatternError: an unterminated class, an empty range or a trailing backslash.
    """
    return re.compile(_translate(pattern, deep=False), re.DOTALL)


def _translate(pattern: str, *, deep: bool) -> str:
    """A regex for ``fullmatch``; ``deep`` gives ``**`` patternmatcher's meaning."""
    out = []
    i, end = 0, len(pattern)
    while i < end:
        char = pattern[i]
        i += 1
        if char == "*":
            if deep and pattern.startswith("*", i):
                i += 1
                if pattern.startswith("/", i):
                    i += 1
                out.append("(?:.*/)?" if i < end else ".*")
            else:
                out.append("[^/]*")
        elif char == "?":
            out.append("[^/]")
        elif char == "[":
            chars, i = _char_class(pattern, i)
            out.append(chars)
        elif char == "\\":
            if i == end:
                raise PatternError(f"the pattern {pattern!r} ends with a lone backslash")
            out.append(re.escape(pattern[i]))
            i += 1
        else:
            out.append(re.escape(char))
    return "".join(out)


def _char_class(pattern: str, i: int) -> tuple[str, int]:
    """The regex of a ``[class]`` whose ``[`` is just before ``i``, and the index after it."""

    def one(at: int) -> tuple[str, int]:
        if at < len(pattern) and pattern[at] == "\\":
            at += 1
        elif at < len(pattern) and pattern[at] in "-]":
            raise PatternError(f"the class in {pattern!r} is malformed")
        if at >= len(pattern):
            raise PatternError(f"the class in {pattern!r} is not closed")
        return pattern[at], at + 1

    negated = pattern.startswith("^", i)
    i += negated
    ranges: list[str] = []
    while not (ranges and pattern.startswith("]", i)):
        low, i = one(i)
        high = low
        if pattern.startswith("-", i):
            high, i = one(i + 1)
        if low <= high:
            ranges.append(f"{re.escape(low)}-{re.escape(high)}")
        else:
            ranges.append("")  # filepath.Match accepts an empty range; it matches nothing
    body = "".join(ranges)
    if not body:
        return ("[^/]" if negated else "(?!)"), i + 1
    return f"(?!/)[{'^' if negated else ''}{body}]", i + 1


@dataclass(frozen=True, slots=True)
class _Pattern:
    """One compiled pattern; exactly one of ``literal`` and ``regex`` decides."""

    text: str
    negated: bool
    literal: str | None
    regex: str
    segments: tuple[re.Pattern[str] | None, ...]
    """Per segment its glob; None from the first ``**`` on."""


def _compile(text: str) -> _Pattern:
    """A cleaned pattern, with its ``!`` if it has one."""
    negated = text.startswith("!")
    if negated:
        text = text[1:]
        if not text:
            raise PatternError('"!" excludes nothing: a path must follow it')
    _translate(text, deep=False)  # filepath.Match is what judges the syntax
    special = WILDCARDS & set(text) or "\\" in text
    head, tail = text[:2], text[2:]
    if not special:
        regex = re.escape(text)
    elif head == "**" and not (WILDCARDS & set(tail) or "\\" in tail):
        # patternmatcher compares these as a bare suffix, so "**x" also matches "ax"
        regex = f"(?:.*{re.escape(tail)}" + (f"|{re.escape(tail[1:])})" if tail.startswith("/") else ")")
    else:
        regex = _translate(text, deep=True)
    segments: list[re.Pattern[str] | None] = []
    for part in text.split("/"):
        segments.append(None if "**" in part else compile_glob(part) if _sound(part) else None)
        if segments[-1] is None:
            break
    return _Pattern(text, negated, None if special else text, regex, tuple(segments))


def _sound(segment: str) -> bool:
    """Whether a segment compiles by itself: a class may span a slash, and then nothing is known about the parts."""
    try:
        compile_glob(segment)
    except PatternError:
        return False
    return True


class Patterns:
    """Ordered patterns, the last match wins. Paths are relative, slashes between the parts and none around.

    Raises:
        PatternError: a malformed pattern; its index is in ``args[1]``.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        compiled = []
        for index, text in enumerate(patterns):
            try:
                compiled.append(_compile(text))
            except PatternError as error:
                raise PatternError(str(error), index) from None
        self._patterns = tuple(compiled)
        self._plain = not any(p.negated for p in compiled)
        self._literals = frozenset(p.literal for p in compiled if p.literal is not None)
        wild = [p.regex for p in compiled if p.literal is None]
        self._wild = re.compile("|".join(f"(?:{r})" for r in wild), re.DOTALL).fullmatch if wild else None
        self._each = tuple((p.negated, p.literal, re.compile(p.regex, re.DOTALL).fullmatch) for p in compiled)

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def match(self, path: str, parent: State | None = None) -> tuple[bool, State | None]:
        """Whether ``path`` matches, and the state for its children.

        ``parent`` is the state of the directory it is in, None at the top or where nothing above matched and no
        pattern is negated.
        """
        if self._plain:
            # what matches covers everything below, so whoever walks need not come back for the children
            hit = path in self._literals or (self._wild is not None and self._wild(path) is not None)
            return hit or parent is not None, (True,) if hit or parent is not None else None
        matched = False
        state = []
        for index, (negated, literal, regex) in enumerate(self._each):
            hit = parent is not None and parent[index]
            # moby skips a pattern that could not change the outcome, and then its children don't inherit the match
            if not hit and negated == matched:
                hit = path == literal if literal is not None else regex(path) is not None
            state.append(hit)
            if hit:
                matched = not negated
        return matched, tuple(state)

    def match_deep(self, path: str) -> tuple[bool, State | None]:
        """The same for a path whose parents have not been matched yet."""
        state: State | None = None
        matched = False
        for end in (*(i for i, c in enumerate(path) if c == "/"), len(path)):
            matched, state = self.match(path[:end], state)
        return matched, state

    def deciding(self, path: str) -> int | None:
        """The index of the pattern that makes ``path`` match, or None if it does not."""
        matched, state = self.match_deep(path)
        if not matched:
            return None
        if self._plain:
            tops = [path[:i] for i, c in enumerate(path) if c == "/"] + [path]
            return next(
                i for i, (_, _, regex) in enumerate(self._each) if any(regex(top) is not None for top in tops)
            )
        assert state is not None
        return max(i for i, hit in enumerate(state) if hit and not self._each[i][0])

    def may_match_below(self, path: str) -> bool:
        """Whether a pattern without ``!`` could match something below the directory ``path``."""
        return self._reaches_below(path, negated=False)

    def may_unmatch_below(self, path: str) -> bool:
        """Whether a ``!`` pattern could match something below the directory ``path``."""
        return not self._plain and self._reaches_below(path, negated=True)

    def _reaches_below(self, path: str, *, negated: bool) -> bool:
        parts = path.split("/") if path else []
        return any(_reaches(p.segments, parts) for p in self._patterns if p.negated == negated)


def _reaches(segments: tuple[re.Pattern[str] | None, ...], parts: list[str]) -> bool:
    for glob, part in zip(segments, parts, strict=False):
        if glob is None:
            return True
        if glob.fullmatch(part) is None:
            return False
    return len(segments) > len(parts) or None in segments
