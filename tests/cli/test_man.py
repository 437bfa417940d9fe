"""Manual pages: of every command, of what its parser says, and good roff."""

from __future__ import annotations

import argparse
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from layersmith.cli import COMMANDS
from layersmith.cli.man import page


@pytest.mark.interop
@pytest.mark.skipif(shutil.which("mandoc") is None, reason="needs mandoc")
def test_mandoc_finds_nothing_wrong(cli: Any, tmp_path: Path) -> None:
    """Every page passes ``mandoc -Tlint`` without a warning."""
    cli("man", "--dir", "pages")
    pages = sorted((tmp_path / "pages").iterdir())
    assert len(pages) == len(COMMANDS) + 1
    done = subprocess.run(
        ["mandoc", "-Tlint", "-W", "warning", *pages], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == ""


@pytest.mark.interop
@pytest.mark.skipif(shutil.which("man") is None, reason="needs man")
def test_man_shows_a_page(cli: Any) -> None:
    """Hyphens are hyphens, so that what a page shows can be copied."""
    done = subprocess.run(
        ["man", "-l", "-"],
        input=cli("man", "build"),
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "200"},
    )
    assert done.returncode == 0
    if "minimized" in done.stdout:
        pytest.skip("this system's man is a stub")
    assert "--build-arg NAME[=VALUE]" in done.stdout
    assert "layersmith build -t web:1.2 -f web.build ." in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_has_every_option_and_example(name: str) -> None:
    """It is made of the parser: nothing of ``--help`` is missing."""
    import importlib

    from layersmith.cli import command_parser

    text = page(name)
    parser = command_parser(name, importlib.import_module(f"layersmith.cli.{COMMANDS[name].module}"))
    for action in parser._actions:
        for option in action.option_strings if action.help != argparse.SUPPRESS else ():
            assert option.replace("-", r"\-") in text
    assert ".SH EXAMPLES" in text
    assert ".SH EXIT STATUS" in text


def test_an_unknown_page_is_an_error(cli: Any) -> None:
    """With status 2, and nothing on standard output."""
    assert "there is no command 'nope'" in cli.error("man", "nope", status=2)
