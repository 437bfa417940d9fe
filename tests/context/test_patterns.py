"""Patterns as Go's filepath.Match and moby/patternmatcher match them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layersmith.context.patterns import PatternError, Patterns, clean, compile_glob, has_wildcard, unescape


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("**", "file", True),
        ("**", "dir/file", True),
        ("**/", "dir/file", True),
        ("**/**", "dir/file", True),
        ("dir/**", "dir/file", True),
        ("dir/**", "dir/dir2/file", True),
        ("dir/**", "dir", False),
        ("dir/**", "dir2/file", False),
        ("**/dir", "dir/file", True),
        ("**/dir", "dir2/dir/file", True),
        ("**/dir2/*", "dir/dir2/file", True),
        ("**/dir2/*", "dir/dir2/dir2/file", True),
        ("**file", "file", True),
        ("**file", "dir/xfile", True),
        ("**/file", "dir/dir/file", True),
        ("**/file", "dir/xfile", False),
        ("**/file*", "dir/dir/file.txt", True),
        ("**/file*txt", "dir/dir/file.txt", True),
        ("**/file*.txt*", "dir/dir/file.txt", True),
        ("**/**/*.txt", "dir/dir/file.txt", True),
        ("**/**/*.txt2", "dir/dir/file.txt", False),
        ("**/*.txt", "file.txt", True),
        ("**/**/*.txt", "file.txt", True),
        ("a**/*.txt", "a/file.txt", True),
        ("a**/*.txt", "a/dir/dir/file.txt", True),
        ("a/*.txt", "a/dir/file.txt", False),
        ("a/*.txt", "a/file.txt", True),
        ("a/*.txt**", "a/file.txt", True),
        ("a[b-d]e", "ae", False),
        ("a[b-d]e", "ace", True),
        ("a[b-d]e", "aae", False),
        ("a[^b-d]e", "aze", True),
        ("a[^b-d]e", "a/e", False),
        (".*", ".foo", True),
        (".*", "foo", False),
        ("abc.def", "abcdef", False),
        ("abc.def", "abc.def", True),
        ("abc.def", "abcZdef", False),
        ("abc?def", "abcZdef", True),
        ("abc?def", "abcdef", False),
        ("a\\\\", "a\\", True),
        ("a\\b", "ab", True),
        ("a\\*b", "a*b", True),
        ("a\\*b", "axb", False),
        ("**/foo/bar", "foo/bar", True),
        ("**/foo/bar", "dir/foo/bar", True),
        ("**/foo/bar", "dir/dir2/foo/bar", True),
        ("abc/**", "abc/def", True),
        ("abc/**", "abc", False),
        ("abc/**", "abc/def/ghi", True),
        ("**/.foo", ".foo", True),
        ("**/.foo", "bar.foo", False),
        ("a(b)c/def", "a(b)c/def", True),
        ("a(b)c/def", "a(b)c/xyz", False),
        ("a.|)$(}+{bc", "a.|)$(}+{bc", True),
        ("a^b", "a^b", True),
        ("*", "a/b", True),
        ("dir", "dir/file", True),
        ("dir", "directory", False),
        ("é*", "éa", True),
        ("?", "é", True),
        ("?", "\udcff", True),
        ("a\nb", "a\nb", True),
        ("*", "a\nb", True),
    ],
)
def test_match(pattern: str, path: str, matches: bool) -> None:
    """moby's own examples, and what is peculiar: a match covers what is below, ``**`` matches no part too."""
    assert Patterns([clean(pattern)]).match_deep(path)[0] is matches


@pytest.mark.parametrize(
    ("patterns", "path", "matches"),
    [
        (["**", "!file"], "file", False),
        (["**", "!file"], "other", True),
        (["dir", "!dir/file"], "dir/file", False),
        (["dir", "!dir/file"], "dir/other", True),
        (["!dir/file", "dir"], "dir/file", True),
        (["*.md", "!README*.md", "README-secret.md"], "README-secret.md", True),
        (["*.md", "!README*.md", "README-secret.md"], "README.md", False),
        (["*", "!a/b"], "a/b/c", False),
        (["*", "!a/b", "a/b/c"], "a/b/c", True),
        (["subdir", "!*/sub1*"], "subdir/sub1.txt", False),
        (["dir/x", "!dir"], "dir/x", True),
        (["**", "!**/*.go"], "pkg/main.go", False),
    ],
)
def test_last_match_wins(patterns: list[str], path: str, matches: bool) -> None:
    """``!`` takes back what an earlier pattern said; moby's skipped patterns are not inherited."""
    assert Patterns(patterns).match_deep(path)[0] is matches


@pytest.mark.parametrize(
    "pattern", ["[", "[]a]", "[a", "a[", "[-]", "[a-", "a\\", "[\\", "!", "![", "dir/[^"]
)
def test_malformed(pattern: str) -> None:
    """What filepath.Match calls ErrBadPattern, with the pattern's place in the list."""
    with pytest.raises(PatternError) as caught:
        Patterns(["fine", pattern])
    assert caught.value.args[1] == 1


@pytest.mark.parametrize(
    ("patterns", "directory", "reaches"),
    [
        (["*", "!a/b"], "a", True),
        (["*", "!a/b"], "b", False),
        (["*", "!a/b"], "a/b", False),
        (["*", "!**/b"], "anything/at", True),
        (["*", "!*/b"], "x", True),
        (["*", "!x?/b/c"], "xy/b", True),
        (["*", "!x?/b/c"], "xy/c", False),
        (["*"], "a", False),
    ],
)
def test_pruning(patterns: list[str], directory: str, reaches: bool) -> None:
    """A hidden directory is walked only where a ``!`` pattern could match below it."""
    assert Patterns(patterns).may_unmatch_below(directory) is reaches


SEGMENT = st.text(alphabet="ab.*?", min_size=1, max_size=4)
PATTERN = st.lists(SEGMENT, min_size=1, max_size=3).map("/".join)
PATH = st.lists(st.text(alphabet="ab.", min_size=1, max_size=3), min_size=1, max_size=4).map("/".join)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.booleans(), PATTERN), max_size=4), PATH)
def test_pruning_loses_nothing(rules: list[tuple[bool, str]], path: str) -> None:
    """A path that is visible below a hidden directory is always reached by a walk that prunes."""
    patterns = Patterns([("!" if negated else "") + pattern for negated, pattern in rules])
    if not patterns.match_deep(path)[0]:
        parts = path.split("/")
        for end in range(1, len(parts)):
            above = "/".join(parts[:end])
            assert not patterns.match_deep(above)[0] or patterns.may_unmatch_below(above)


@settings(max_examples=100, deadline=None)
@given(st.lists(PATTERN, max_size=4), PATH)
def test_plain_patterns_match_alone_as_together(rules: list[str], path: str) -> None:
    """Without ``!``, a list matches where one of its patterns does, and `deciding` names one that does."""
    alone = [Patterns([rule]).match_deep(path)[0] for rule in rules]
    together = Patterns(rules)
    assert together.match_deep(path)[0] is any(alone)
    index = together.deciding(path)
    assert (index is None) if not any(alone) else alone[index or 0]


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="ab[]^-\\*?/!", max_size=8), PATH)
def test_any_text_matches_or_is_malformed(pattern: str, path: str) -> None:
    """Never another exception."""
    try:
        patterns = Patterns([clean(pattern)])
    except PatternError:
        return
    patterns.match_deep(path)


def test_glob_of_one_segment() -> None:
    """filepath.Match without ``**``: two stars are one."""
    assert compile_glob("a**b").fullmatch("axxb")
    assert not compile_glob("a**b").fullmatch("a/b")
    assert compile_glob("[[]x").fullmatch("[x")
    assert compile_glob("[b-a]") is not None and not compile_glob("[b-a]").fullmatch("a")


def test_wildcards_and_escapes() -> None:
    """An escaped wildcard is none."""
    assert has_wildcard("a*") and not has_wildcard("a\\*") and has_wildcard("\\\\*")
    assert unescape("a\\*\\\\") == "a*\\"


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="ab./", max_size=12))
def test_clean_is_canonical(path: str) -> None:
    """filepath.Clean: idempotent, no empty or ``.`` component, ``..`` only in front."""
    cleaned = clean(path)
    assert clean(cleaned) == cleaned
    assert cleaned == "." or not re.search(r"//|(^|/)\.(/|$)|[^./][^/]*/\.\.(/|$)", cleaned)
