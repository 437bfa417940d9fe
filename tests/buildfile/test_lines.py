from __future__ import annotations

import pytest

from layersmith.buildfile.instructions import Check, Directives
from layersmith.buildfile.lines import Lines, LogicalLine, heredoc_of, opened_heredocs, read_directives
from layersmith.errors import BuildfileSyntaxError
from layersmith.source import Source


def logical(text: str, escape: str = "\\") -> list[LogicalLine]:
    return list(Lines(Source("f", text), escape))


JOINED = [
    ("RUN a", ["RUN a"]),
    ("  RUN a  \n\n\tRUN b\t", ["RUN a", "RUN b"]),
    ("RUN a \\\n  b", ["RUN a   b"]),
    ("RUN a\\\nb", ["RUN ab"]),
    ("RUN a \\  \t\n b", ["RUN a  b"]),
    ("RUN a \\\n# no\n  # no\n b", ["RUN a  b"]),
    ("RUN a \\\n\n   \n b", ["RUN a  b"]),
    ("RUN a \\\\\nRUN b", ["RUN a \\\\", "RUN b"]),
    ("RUN a \\ x\nRUN b", ["RUN a \\ x", "RUN b"]),
    ("RUN a \\", ["RUN a"]),
    ("\\\nRUN a", ["RUN a"]),
    ("\\\n\\\n", []),
    ("RUN a # b", ["RUN a # b"]),
    ("# RUN a\n   # b\nRUN c", ["RUN c"]),
    ("RUN a \\\r\n b\r\nRUN c\r\n", ["RUN a  b", "RUN c"]),
]


@pytest.mark.parametrize(("text", "lines"), JOINED)
def test_continuations_comments_and_blanks(text: str, lines: list[str]) -> None:
    """A logical line is one instruction, whatever lines it was written on."""
    assert [line.text for line in logical(text)] == lines


def test_the_escape_decides_what_continues() -> None:
    """With a backtick as escape a backslash ends no line."""
    assert [line.text for line in logical("RUN a `\n b \\\nRUN c", "`")] == ["RUN a  b \\", "RUN c"]


def test_every_character_knows_its_place() -> None:
    """The place of an offset is where that character stands in the file."""
    text = "\n  RUN one \\\n# no\n   two\\\nthree \\\n\n  four"
    (line,) = logical(text)
    physical = text.split("\n")
    for offset, char in enumerate(line.text):
        number, column = line.place(offset)
        assert physical[number - 1][column - 1] == char
    assert (line.line, line.end_line) == (2, 7)
    assert line.empty_lines == (6,)
    assert [comment.line for comment in line.inner_comments] == [3]


def test_comments_belong_to_the_instruction_below() -> None:
    """An empty line parts them."""
    first, second = logical("# far\n\n# near\n#  nearer\nRUN a\nRUN b\n# last\n")
    assert [comment.text for comment in first.comments] == ["# near", "#  nearer"]
    assert second.comments == ()


HEREDOCS = [
    ("RUN <<EOF", [("EOF", True, False, 0)]),
    ("RUN <<-EOF", [("EOF", True, True, 0)]),
    ("RUN cat 3<<'E' <<\"F\" x", [("E", False, False, 3), ("F", False, False, 0)]),
    ("RUN <<E'O'F", [("EOF", False, False, 0)]),
    (r"RUN <<E\'F", [("E'F", True, False, 0)]),
    ("RUN <<'one two'", [("one two", False, False, 0)]),
    ("RUN <<$EOF", [("$EOF", True, False, 0)]),
    ("RUN <<  EOF > x", [("EOF", True, False, 0)]),
    ("RUN <<- EOF", [("EOF", True, True, 0)]),
    ("RUN << -EOF", [("-EOF", True, False, 0)]),
    ("RUN <<<EOF", []),
    ("RUN a<<EOF", []),
    ("RUN '<<EOF'", []),
    ('RUN "<<EOF"', []),
    ("RUN <<", []),
    ("RUN <EOF", []),
    ("RUN $((1<<2))", []),
    ("RUN cat <<EOF # it's", []),
]


@pytest.mark.parametrize(("text", "opened"), HEREDOCS)
def test_what_opens_a_heredoc(text: str, opened: list[tuple[str, bool, bool, int]]) -> None:
    """BuildKit's rule, quotes and all; a line whose quotes do not match opens none."""
    found = [(h.name, h.expand, h.strip_tabs, h.fd) for h in opened_heredocs(text)]
    assert found == opened


def test_a_script_is_one_word() -> None:
    """`<<EOF sh` is no heredoc by itself."""
    assert heredoc_of("<<EOF sh") is None
    assert heredoc_of("<<'EOF'") is not None


def test_bodies_follow_in_order() -> None:
    """The first terminator of a name ends its body; tabs go where `<<-` says so."""
    lines = Lines(Source("f", "COPY <<A <<-B /x\nB\nA\n\tone\n\t\t two\n\tB\nRUN next\n"), "\\")
    iterator = iter(lines)
    first, second = lines.heredocs(next(iterator))
    assert (first.body, second.body, second.raw) == ("B\n", "one\n two\n", "\tone\n\t\t two\n")
    assert next(iterator).text == "RUN next"


def test_a_body_keeps_its_carriage_returns() -> None:
    """The terminator is found without them, the body has them."""
    lines = Lines(Source("f", "RUN <<A\r\nx\r\nA\r\n"), "\\")
    (heredoc,) = lines.heredocs(next(iter(lines)))
    assert heredoc.body == "x\r\n"


def test_an_unterminated_heredoc_is_shown_where_it_opens() -> None:
    """The span is the opening word's, though the trouble is at the end of the file."""
    lines = Lines(Source("f", "RUN cat <<EOF\nx\n EOF\n"), "\\")
    with pytest.raises(BuildfileSyntaxError, match="unterminated heredoc") as caught:
        lines.heredocs(next(iter(lines)))
    assert str(caught.value.span) == "f:1:9"


DIRECTIVES = [
    ("", Directives()),
    ("FROM x", Directives()),
    ("# syntax=docker/dockerfile:1 extra\nFROM x", Directives(syntax="docker/dockerfile:1")),
    ("# syntax=a\u3000 b\nFROM x", Directives(syntax="a")),
    ("# syntax=\x1c\nFROM x", Directives(syntax="\x1c")),
    ("#escape = `\r\n#  SYNTAX=a\r\nFROM x", Directives(syntax="a", escape="`")),
    ("# a comment\n# escape=`\n", Directives()),
    ("\n# escape=`\n", Directives()),
    ("# unknown=1\n# escape=`\n", Directives()),
    ("#!/usr/bin/env layersmith\n# syntax=a\n", Directives(syntax="a")),
    ("# check=skip=A, B;error=true\n", Directives(check=Check(skip=("A", "B"), error=True))),
    ("# check=skip=all\n", Directives(check=Check(skip_all=True))),
    ("# check=experimental=all;error=0\n", Directives(check=Check(experimental_all=True))),
    ("# check=experimental=A\n", Directives(check=Check(experimental=("A",)))),
]


@pytest.mark.parametrize(("text", "directives"), DIRECTIVES)
def test_directives(text: str, directives: Directives) -> None:
    """They stand first; the first line that is none ends them."""
    assert read_directives(Source("f", text)) == directives


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("# escape=\\\n# escape=`\n", "f:2:1"),
        ("# escape=x\n", "f:1:1"),
        ("# check=nonsense\n", "f:1:1"),
        ("# check=error=maybe\n", "f:1:1"),
    ],
)
def test_bad_directives(text: str, place: str) -> None:
    """A repeated or meaningless directive is an error on its line."""
    with pytest.raises(BuildfileSyntaxError) as caught:
        read_directives(Source("f", text))
    assert str(caught.value.span) == place
