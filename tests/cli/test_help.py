"""``--help``: consistent, with examples that the command's own parser takes."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from layersmith import cli as command_line
from layersmith import errors
from layersmith.cli import COMMANDS, EXIT_STATUSES, overview

README = Path(__file__).parents[2] / "README.md"


def examples(text: str) -> list[str]:
    """The command lines of an epilog: what follows two or more blanks says what they do."""
    lines = [line.strip() for line in text.splitlines() if line.startswith("  ")]
    return [re.split(r"\s{2,}", line)[0] for line in lines]


def test_the_overview_lists_every_command() -> None:
    """Each on a line that fits a terminal."""
    lines = overview().splitlines()
    names = "|".join(sorted(COMMANDS, key=len, reverse=True))
    found = [re.split(r"\s{2,}", re.sub(rf"^  ({names}) ", r"\1  ", line)) for line in lines]
    for name, command in COMMANDS.items():
        assert [name, command.help] in found
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_examples_that_parse(name: str) -> None:
    """An example with an option that does not exist would be worse than none."""
    module = importlib.import_module(f"layersmith.cli.{COMMANDS[name].module}")
    parser = command_line.command_parser(name, module)
    assert parser.epilog is not None
    assert parser.epilog.startswith("examples:\n")
    found = 0
    for line in examples(parser.epilog):
        words = shlex.split(line, comments=True)
        for start, word in enumerate(words[:-1]):
            if word.lstrip("$(") != "layersmith":
                continue
            called, arguments = command_line.command_of(words[start + 1 :])
            if called == name:
                end = next((n for n, w in enumerate(arguments) if w[0] in "|&;<>"), len(arguments))
                if not any("$(" in word for word in arguments[:end]):
                    parser.parse_args(arguments[:end])
                found += 1
    assert found


def test_the_exit_statuses_are_the_errors_own_and_the_readmes() -> None:
    """One table, three places: what the errors carry, what ``--help`` prints, what the README says."""
    own = {str(kind.exit_code) for kind in vars(errors).values() if hasattr(kind, "exit_code")}
    assert own <= {status for status, _ in EXIT_STATUSES}
    for status, meaning in EXIT_STATUSES:
        assert f"  {status:<12} {meaning}" in overview().splitlines()
        assert f"| {status} | {meaning} |".replace(" | head", " \\| head") in README.read_text()


@pytest.mark.parametrize("words", [["--help"], ["build", "--help"], ["images"]])
def test_a_reader_that_went_away_is_no_error(words: list[str], tmp_path: Path) -> None:
    """``layersmith … | head``: status 141 as of any filter that a signal ends (argparse says 0), and not a word."""
    reader, writer = os.pipe()
    os.close(reader)
    env = os.environ | {"LAYERSMITH_ROOT": str(tmp_path / "store")}
    command = [sys.executable, "-m", "layersmith", *words]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, env=env, timeout=60)
    os.close(writer)
    assert done.stderr == b""
    assert done.returncode == (0 if words[1:] else 141)


LISTING = (
    "builds",
    "check",
    "df",
    "diff",
    "doctor",
    "explain",
    "fsck",
    "history",
    "images",
    "layers",
    "prune",
    "ps",
)


@pytest.mark.parametrize("name", LISTING)
def test_what_lists_can_list_json(name: str) -> None:
    """``--format json``, wherever something is listed."""
    module = importlib.import_module(f"layersmith.cli.{COMMANDS[name].module}")
    parser = command_line.command_parser(name, module)
    (option,) = [action for action in parser._actions if "--format" in action.option_strings]
    assert option.choices is None or "json" in option.choices
