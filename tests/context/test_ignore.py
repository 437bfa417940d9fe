"""Ignore files: which is read, how its lines are read, and what a rule says of itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from layersmith.context import Context, parse_ignore
from layersmith.errors import BuildfileSyntaxError, UsageError


@pytest.mark.parametrize(
    ("text", "hidden", "visible"),
    [
        ("a\n", ["a", "a/b"], ["b"]),
        ("# a\n #b\n", ["#b"], ["a", "# a"]),
        ("  a  \r\n\r\nb\t\n", ["a", "b"], ["c"]),
        ("/a\n", ["a"], ["b"]),
        ("./a/../b/\n", ["b", "b/c"], ["a"]),
        ("\ufeffa\n", ["a"], []),
        ("*\n! a\n", ["b"], ["a"]),
        ("*\n!/a\n", ["b"], ["a"]),
        (".\n/\n..\n../x\n", [], ["a", "x"]),
        ("a b\n", ["a b"], ["a"]),
        ("", [], ["a"]),
    ],
)
def test_lines(text: str, hidden: list[str], visible: list[str]) -> None:
    """``#`` in the first column only, blanks around, a leading slash and a BOM don't count."""
    ignore = parse_ignore(text)
    assert [p for p in hidden + visible if ignore.hides(p)] == hidden


@pytest.mark.parametrize(("text", "line", "column"), [("a\n!\n", 2, 1), ("a\n\n  b[\n", 3, 3), ("x\\", 1, 1)])
def test_malformed_rules_have_a_span(text: str, line: int, column: int) -> None:
    """The error points into the ignore file."""
    with pytest.raises(BuildfileSyntaxError) as caught:
        parse_ignore(text, "sub/.dockerignore")
    span = caught.value.span
    assert span is not None
    assert (span.source.name, span.line, span.column) == ("sub/.dockerignore", line, column)
    assert caught.value.hint


def test_the_deciding_rule() -> None:
    """Of several that match, the one that had the last word; none for what is visible."""
    ignore = parse_ignore("*\n!keep\nkeep/secret\n")
    rule = ignore.rule_for("keep/secret/key")
    assert rule is not None and (rule.text, rule.span.line) == ("keep/secret", 3)
    rule = ignore.rule_for("other")
    assert rule is not None and rule.text == "*"
    assert ignore.rule_for("keep/x") is None


def test_which_file_counts(tmp_path: Path) -> None:
    """The Buildfile's own, else .containerignore, else .dockerignore; never two of them."""
    buildfile = tmp_path / "sub" / "Prod.build"
    buildfile.parent.mkdir()
    assert Context.open(tmp_path, buildfile=buildfile).ignore is None
    for path, name in (
        (".dockerignore", "d"),
        (".containerignore", "c"),
        ("sub/Prod.build.dockerignore", "b"),
    ):
        (tmp_path / path).write_text(name)
        ignore = Context.open(tmp_path, buildfile=buildfile).ignore
        assert ignore is not None and [rule.pattern for rule in ignore.rules] == [name]
    other = Context.open(tmp_path).ignore
    assert other is not None and other.rules[0].pattern == "c"


def test_a_context_must_be_a_directory(tmp_path: Path) -> None:
    """A file, or nothing, is a usage error; a fifo as ignore file is not read."""
    (tmp_path / "file").write_text("")
    for path, what in ((tmp_path / "file", "is not a directory"), (tmp_path / "no", "does not exist")):
        with pytest.raises(UsageError, match=what):
            Context.open(path)
    os.mkfifo(tmp_path / ".dockerignore")
    assert Context.open(tmp_path).ignore is None
