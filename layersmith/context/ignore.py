"""CONTEXT: .dockerignore rules. In: the file's text. Out: `Ignore`, which says whether a path is hidden and by which rule.

The semantics are moby/patternmatcher's: anchored at the root, the last matching rule wins, ``!`` re-includes (below
excluded directories too), and a rule that matches a directory covers what is below it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from layersmith.source import Span


@dataclass(frozen=True, slots=True)
class Rule:
    """One line: the cleaned ``pattern`` (no ``!``), whether it re-includes, and where it stands."""

    pattern: str
    negated: bool
    text: str
    span: Span | None = None


class Ignore:
    """Compiled rules. Paths are relative, with ``/`` between and none around."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)

    def hides(self, path: str) -> bool:
        """Whether ``path`` is left out."""
        return self.rule_for(path) is not None

    def rule_for(self, path: str) -> Rule | None:
        """The rule that hides ``path``, or None if it is visible."""
        raise NotImplementedError


def parse_ignore(text: str | bytes, name: str = ".dockerignore") -> Ignore:
    """Rules from the text of an ignore file.

    Raises:
        BuildfileSyntaxError: a lone ``!`` or a malformed pattern, with its span.
    """
    raise NotImplementedError
