from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layersmith.buildfile.patterns import remove_prefix, remove_suffix, replace
from layersmith.errors import ExpansionError

PATTERNS = st.text(alphabet="ab*?", max_size=6)
VALUES = st.text(alphabet="abc\n", max_size=10)
LIMIT = 10_000


def as_regex(pattern: str, *, longest: bool) -> re.Pattern[str]:
    """The same pattern for `re`, which is slower on bad patterns but made by others."""
    parts = {"*": "[^\n]*" if longest else "[^\n]*?", "?": "[^\n]"}
    return re.compile("".join(parts.get(char, re.escape(char)) for char in pattern))


@settings(max_examples=100)
@given(VALUES, PATTERNS, st.booleans())
def test_prefixes_are_those_of_a_regular_expression(value: str, pattern: str, longest: bool) -> None:
    """`#` takes the shortest prefix that matches, `##` the longest."""
    ends = [end for end in range(len(value) + 1) if as_regex(pattern, longest=True).fullmatch(value[:end])]
    cut = (max(ends) if longest else min(ends)) if ends else 0
    assert remove_prefix(value, pattern, longest=longest) == value[cut:]


@settings(max_examples=100)
@given(VALUES, PATTERNS, st.booleans())
def test_suffixes_are_those_of_a_regular_expression(value: str, pattern: str, longest: bool) -> None:
    """`%` takes the shortest suffix that matches, `%%` the longest."""
    size = len(value)
    starts = [i for i in range(size + 1) if as_regex(pattern, longest=True).fullmatch(value[i:])]
    cut = (min(starts) if longest else max(starts)) if starts else size
    assert remove_suffix(value, pattern, longest=longest) == value[:cut]


@settings(max_examples=100)
@given(VALUES, PATTERNS)
def test_the_first_match_is_the_leftmost_and_longest(value: str, pattern: str) -> None:
    """`/` replaces what a greedy regular expression finds first."""
    expected = as_regex(pattern, longest=True).sub("[]", value, count=1)
    assert replace(value, pattern, "[]", every=False, limit=LIMIT) == expected


@settings(max_examples=100)
@given(VALUES, PATTERNS.filter(lambda pattern: pattern.strip("*")))
def test_every_match_is_replaced(value: str, pattern: str) -> None:
    """`//` replaces all that do not overlap."""
    expected = as_regex(pattern, longest=True).sub("[]", value)
    assert replace(value, pattern, "[]", every=True, limit=LIMIT) == expected


def test_empty_matches_follow_go() -> None:
    """An empty pattern matches everywhere, but not right behind another match."""
    assert replace("ab", "", "-", every=True, limit=LIMIT) == "-a-b-"
    assert replace("ab", "*", "-", every=True, limit=LIMIT) == "-"
    assert replace("", "*", "-", every=True, limit=LIMIT) == "-"


def test_a_replacement_of_all_is_a_template() -> None:
    """With `//` Go's `$0` is the match, other names are nothing; with `/` the text is literal."""
    assert replace("abc", "?", "<$0$1${x}$$>", every=True, limit=LIMIT) == "<a$><b$><c$>"
    assert replace("abc", "?", "<$0>", every=False, limit=LIMIT) == "<$0>bc"


def test_only_known_escapes_are_taken() -> None:
    r"""`\*` is a star, `\x` an error."""
    assert remove_prefix("*a", r"\*", longest=False) == "a"
    with pytest.raises(ExpansionError):
        remove_prefix("xa", r"\x", longest=False)
    with pytest.raises(ExpansionError):
        remove_prefix("xa", "\\", longest=False)
