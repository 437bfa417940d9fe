"""PARSE: the patterns of ``${v#p}``, ``${v%p}`` and ``${v/p/r}``. In: a value and a pattern. Out: the changed value.

Only ``*`` and ``?`` are special, and neither matches a newline; a backslash escapes ``* ? \\ / }`` and nothing else
(BuildKit, shell/lex.go, ``convertShellPatternToRegex``). A match is a walk over sets of states held in one integer,
so that no pattern costs more than its length times the value's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum

from layersmith.buildfile.suggest import shown
from layersmith.dataclass import dataclass
from layersmith.errors import ExpansionError

LONGEST_PATTERN = 4096
"""Characters. Real patterns have a dozen; this keeps the product of lengths small."""


class Wild(Enum):
    ONE = "?"
    MANY = "*"


Token = str | Wild


def tokens(pattern: str) -> list[Token]:
    """``pattern`` as literal characters and wildcards. Raises `ExpansionError` for a bad escape."""
    if len(pattern) > LONGEST_PATTERN:
        raise ExpansionError(
            f"pattern of {len(pattern)} characters in substitution is longer than {LONGEST_PATTERN}"
        )
    found: list[Token] = []
    chars = iter(pattern)
    for char in chars:
        if char in "*?":
            found.append(Wild(char))
        elif char != "\\":
            found.append(char)
        else:
            escaped = next(chars, "")
            if not escaped or escaped not in "*?\\/}":
                raise ExpansionError(
                    f"invalid pattern {shown(pattern)} in substitution: invalid escape '\\{escaped}'",
                    hint=r"only \* \? \\ \/ and \} are escapes in a pattern",
                )
            found.append(escaped)
    return found


@dataclass(frozen=True, slots=True)
class Automaton:
    """Bit i of a state set: the first i tokens (``MANY`` apart) are matched. ``steps`` maps a character to the bits it
    may advance, ``any_steps`` are those that any character but a newline advances, ``loops`` those under a ``*``."""

    steps: dict[str, int]
    any_steps: int
    loops: int
    final: int

    def ends(self, text: str, start: int = 0) -> Iterator[int]:
        """Where a match that begins at ``start`` may end, ascending."""
        states = 1
        for position in range(start, len(text) + 1):
            if states & self.final:
                yield position
            if position < len(text):
                states = self._advance(states, text[position])
            if not states:
                return

    def all_ends(self, text: str) -> list[bool]:
        """For each position from 0 to len(text): does some match end there?"""
        states = 1
        found = [bool(states & self.final)]
        for char in text:
            states = self._advance(states, char) | 1
            found.append(bool(states & self.final))
        return found

    def _advance(self, states: int, char: str) -> int:
        allowed = self.steps.get(char, 0)
        if char == "\n":
            return (states & allowed) << 1
        return ((states & (allowed | self.any_steps)) << 1) | (states & self.loops)


def automaton(pattern: list[Token]) -> Automaton:
    steps: dict[str, int] = {}
    any_steps = loops = 0
    state = 1
    for token in pattern:
        if token is Wild.MANY:
            loops |= state
            continue
        if token is Wild.ONE:
            any_steps |= state
        else:
            assert isinstance(token, str)
            steps[token] = steps.get(token, 0) | state
        state <<= 1
    return Automaton(steps, any_steps, loops, state)


def remove_prefix(value: str, pattern: str, *, longest: bool) -> str:
    """``${value#pattern}``, ``##`` if ``longest``."""
    return value[_prefix(value, tokens(pattern), longest=longest) :]


def remove_suffix(value: str, pattern: str, *, longest: bool) -> str:
    """``${value%pattern}``, ``%%`` if ``longest``."""
    cut = _prefix(value[::-1], tokens(pattern)[::-1], longest=longest)
    return value[: len(value) - cut]


def _prefix(value: str, pattern: list[Token], *, longest: bool) -> int:
    ends = automaton(pattern).ends(value)
    return max(ends, default=0) if longest else next(ends, 0)


def replace(value: str, pattern: str, replacement: str, *, every: bool, limit: int) -> str:
    """``${value/pattern/replacement}``, ``//`` if ``every``: the leftmost match, and of those the longest.

    With ``every`` the replacement is a template of Go's regexp, as it is with BuildKit: ``$0`` is what matched, ``$name``
    is nothing, ``$$`` a dollar. An empty match right after another match does not count. Raises `ExpansionError` for a
    bad pattern and where the result would be longer than ``limit`` characters.
    """
    forward = tokens(pattern)
    # A match of the reversed pattern that ends at i from the right is one of the pattern that begins there.
    begins = automaton(forward[::-1]).all_ends(value[::-1])[::-1]
    matcher = automaton(forward)
    done: list[str] = []
    position, last_end, length = 0, -1, len(value)
    for start, possible in enumerate(begins):
        if not possible or start < position:
            continue
        end = max(matcher.ends(value, start))
        if start == end == last_end:
            continue
        matched = value[start:end]
        length += len(replacement) + (replacement.count("$") * len(matched) if every else 0)
        if length > limit:
            raise ExpansionError(f"the substitution's result is longer than {limit} characters")
        done += value[position:start], _fill(replacement, matched) if every else replacement
        position = last_end = end
        if not every:
            break
    return "".join(done) + value[position:]


_TEMPLATE = re.compile(r"\$(?:\$|(?P<name>\w+)|\{(?P<braced>\w+)\})")


def _fill(template: str, matched: str) -> str:
    def value(found: re.Match[str]) -> str:
        name = found["name"] or found["braced"]
        if name is None:
            return "$"
        return matched if name == "0" else ""

    return _TEMPLATE.sub(value, template)
