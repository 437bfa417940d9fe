from __future__ import annotations

import pytest

from layersmith.buildfile.include import DEEPEST, MOST_INCLUDES, resolve_includes
from layersmith.buildfile.instructions import Buildfile, Run
from layersmith.buildfile.parser import parse
from layersmith.errors import BuildfileSyntaxError


def resolved(files: dict[str, str], path: str = "Buildfile") -> Buildfile:
    return resolve_includes(parse(files[path], path), files.get, path=path)


def commands(buildfile: Buildfile) -> list[str]:
    return [
        instruction.command.args[0] for instruction in buildfile.instructions if isinstance(instruction, Run)
    ]


def test_the_included_instructions_stand_in_place() -> None:
    """In order, from files that name each other relative to themselves; spans stay in their own file."""
    buildfile = resolved(
        {
            "Buildfile": "FROM x\nRUN 1\nINCLUDE sub/a.build\nRUN 4\n",
            "sub/a.build": "RUN 2\nINCLUDE b.build\nINCLUDE ../empty\n",
            "sub/b.build": "RUN 3\n",
            "empty": "# nothing\n",
        }
    )
    assert commands(buildfile) == ["1", "2", "3", "4"]
    assert [str(instruction.span) for instruction in buildfile.instructions[2:4]] == [
        "sub/a.build:1:1",
        "sub/b.build:1:1",
    ]


def test_a_file_may_be_included_twice() -> None:
    """Twice is no circle."""
    assert commands(resolved({"Buildfile": "FROM x\nINCLUDE a\nINCLUDE ./a\n", "a": "RUN 1\n"})) == ["1", "1"]


def test_the_path_may_lie_in_a_directory() -> None:
    """INCLUDE is relative to the Buildfile, not to the context."""
    files = {"docker/Buildfile": "FROM x\nINCLUDE a\n", "docker/a": "INCLUDE ../b\n", "b": "RUN 1\n"}
    assert commands(resolved(files, "docker/Buildfile")) == ["1"]


REFUSED = [
    ({"Buildfile": "FROM x\nINCLUDE none\n"}, "'none', which is not in the context", "Buildfile:2:1"),
    ({"Buildfile": "FROM x\nINCLUDE ../up\n"}, "outside of the context", "Buildfile:2:1"),
    ({"Buildfile": "FROM x\nINCLUDE /etc/passwd\n"}, "outside of the context", "Buildfile:2:1"),
    ({"Buildfile": "FROM x\nINCLUDE .\n"}, "outside of the context", "Buildfile:2:1"),
    ({"Buildfile": "INCLUDE Buildfile\n"}, "circle: Buildfile → Buildfile", "Buildfile:1:1"),
    (
        {"Buildfile": "INCLUDE a\n", "a": "INCLUDE d/b\n", "d/b": "\nINCLUDE ../a\n"},
        "circle: Buildfile → a → d/b → a",
        "d/b:2:1",
    ),
    ({"Buildfile": "INCLUDE a\n", "a": "# escape=`\nRUN x\n"}, "another escape directive", "Buildfile:1:1"),
]


@pytest.mark.parametrize(("files", "message", "place"), REFUSED)
def test_what_can_not_be_included(files: dict[str, str], message: str, place: str) -> None:
    """The error stands at the INCLUDE."""
    with pytest.raises(BuildfileSyntaxError) as caught:
        resolved(files)
    assert message in caught.value.message
    assert str(caught.value.span) == place


def test_an_error_in_an_included_file_names_the_chain() -> None:
    """The span is in that file, the hint says who wanted it."""
    with pytest.raises(BuildfileSyntaxError) as caught:
        resolved({"Buildfile": "INCLUDE a\n", "a": "INCLUDE b\n", "b": "RUNN x\n"})
    assert str(caught.value.span) == "b:1:1"
    assert caught.value.hint == "did you mean RUN?; included by Buildfile → a"


def test_depth_and_number_are_bounded() -> None:
    """Neither a chain without end nor one that doubles at each level gets far."""
    chain = {str(n): f"INCLUDE {n + 1}\n" for n in range(DEEPEST + 5)}
    with pytest.raises(BuildfileSyntaxError, match=f"deeper than {DEEPEST}"):
        resolved({"Buildfile": "INCLUDE 0\n", **chain})
    many = "RUN x\n" * 2000
    with pytest.raises(BuildfileSyntaxError, match="more than 5000 instructions"):
        resolved({"Buildfile": "INCLUDE a\nINCLUDE a\nINCLUDE a\n", "a": many})
    doubling = {str(n): f"INCLUDE {n + 1}\nINCLUDE {n + 1}\n" for n in range(DEEPEST - 5)}
    with pytest.raises(BuildfileSyntaxError, match=f"more than {MOST_INCLUDES} times"):
        resolved({"Buildfile": "INCLUDE 0\n", **doubling, str(DEEPEST - 5): "# nothing\n"})
