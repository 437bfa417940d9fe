"""CONTEXT: .dockerignore rules. In: the file's text. Out: `Ignore`, which says whether a path is hidden, and by which rule.

The semantics are moby/patternmatcher's: anchored at the root, the last matching rule wins, ``!`` re-includes (below
hidden directories too), and a rule that matches a directory covers what is below it.
"""

from __future__ import annotations

from collections.abc import Iterable

from layersmith.context.patterns import PatternError, Patterns, clean
from layersmith.dataclass import dataclass
from layersmith.errors import BuildfileSyntaxError
from layersmith.source import Source, Span


@dataclass(frozen=True, slots=True)
class Rule:
    """One line: the cleaned ``pattern``, with its ``!`` if it re-includes, the ``text`` as written, and its place."""

    pattern: str
    text: str
    span: Span


class Ignore:
    """Compiled rules. ``patterns`` is what a walk matches with, directory by directory.

    Raises:
        BuildfileSyntaxError: a malformed pattern.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        try:
            self.patterns = Patterns(rule.pattern for rule in self.rules)
        except PatternError as error:
            message, index = error.args
            rule = self.rules[index]
            raise BuildfileSyntaxError(
                f"in {rule.span.source.name}, {message}",
                hint="write ! directly before a path, close every [ with ], and escape a literal one as \\[",
                span=rule.span,
            ) from None

    def hides(self, path: str) -> bool:
        """Whether the relative ``path`` itself is left out (of a hidden directory, something may still be visible)."""
        return self.patterns.match_deep(path)[0]

    def rule_for(self, path: str) -> Rule | None:
        """The rule that hides the relative ``path``, or None if it is visible."""
        index = self.patterns.deciding(path)
        return None if index is None else self.rules[index]


def parse_ignore(text: str | bytes, name: str = ".dockerignore") -> Ignore:
    """The rules in the text of an ignore file called ``name``.

    A line is a comment only if ``#`` is its first column; blanks around a pattern and one leading ``/`` don't count.

    Raises:
        BuildfileSyntaxError: a lone ``!`` or a malformed pattern, with its span.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    source = Source(name, text)
    rules = []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        stripped = line.strip()
        if line.startswith("#") or not stripped:
            continue
        column = line.index(stripped[0]) + 1
        span = Span(source, number, column, number, column + len(stripped))
        rules.append(Rule(_pattern(stripped), stripped, span))
    return Ignore(rules)


def _pattern(line: str) -> str:
    negation = "!" if line.startswith("!") else ""
    pattern = line.removeprefix("!").strip()
    if pattern:
        pattern = clean(pattern)
        if len(pattern) > 1:
            pattern = pattern.removeprefix("/")
    return negation + pattern
