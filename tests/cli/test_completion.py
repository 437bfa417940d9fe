"""Completion: what is offered where, and that bash, zsh and fish offer it."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from layersmith.cli import COMMANDS
from layersmith.cli.complete import complete

BUILDFILE = """\
ARG BASE=base
FROM $BASE AS Compile
ARG VERSION=1
from compile as test
FROM scratch AS ship
FROM scratch AS $(reboot)
RUN this does not parse &&
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a Buildfile that is being edited; a store with an image."""
    (tmp_path / "Buildfile").write_text(BUILDFILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAYERSMITH_ROOT", str(tmp_path / "store"))
    return tmp_path


def offered(*words: str, shell: str = "fish") -> list[str]:
    _, *lines = complete(shell, words).splitlines()
    return [line.split("\t")[0] for line in lines]


def test_commands_and_their_second_words(project: Path) -> None:
    """All of them, each once."""
    assert set(offered("")) >= {name.split()[0] for name in COMMANDS}
    assert offered("bu")[:1] == ["build"]
    assert set(offered("manifest", "")) >= {"create", "push"}
    assert offered("no-such", "") == []


def test_options_of_the_command(project: Path) -> None:
    """As its parser has them; not after ``--``, nor where a command to run begins."""
    assert offered("build", "--no-c") == ["--no-cache", "--no-cache-filter"]
    assert offered("build", "--progress", "") == ["auto", "tty", "plain", "json", "quiet"]
    assert offered("build", "--progress=j") == ["--progress=json"]
    assert offered("run", "--", "--r") == []
    assert offered("run", "image", "--r") == []


def test_stages_and_arguments_of_the_buildfile(project: Path) -> None:
    """Of a file that does not parse yet, too; what a shell would run is not offered."""
    assert offered("build", "--target", "") == ["compile", "test", "ship"]
    assert offered("build", "--target", "c") == ["compile"]
    assert offered("build", "--no-cache-filter", "t") == ["test"]
    assert offered("build", "--build-arg", "V") == ["VERSION="]
    (project / "other").mkdir()
    (project / "other" / "Other").write_text("FROM scratch AS elsewhere\n")
    assert offered("build", "-f", "Other", "other", "--target", "") == ["elsewhere"]
    assert offered("build", "missing", "--target", "") == []


def test_images(project: Path, cli: Any, load: Callable[..., str]) -> None:
    """By name, where an image or a tag is wanted; without a store, none."""
    assert offered("run", "") == []
    load("web:1.2", {"a": b""})
    load("web:latest", {"b": b""})
    for words in (["run", "we"], ["export", "we"], ["tag", "we"], ["build", "-t", "we"], ["rmi", "x", "we"]):
        assert sorted(offered(*words)) == ["web", "web:1.2"]
    assert offered("layersmith run web:1", shell="bash") == ["1.2"]


def test_a_damaged_store_offers_nothing(project: Path) -> None:
    """No traceback between two words of a command line."""
    (project / "store").mkdir()
    (project / "store" / "oci-layout").write_text("{}")
    (project / "store" / "index.json").write_text("not json")
    assert offered("run", "") == []


@pytest.fixture
def shell_path(project: Path, load: Callable[..., str]) -> Iterator[dict[str, str]]:
    """An environment in which ``layersmith`` is this one; a store with ``web:1.2``."""
    load("web:1.2", {"a": b""})
    bin_ = project / "bin"
    bin_.mkdir()
    root = Path(__file__).parents[2]
    script = f'#!/bin/sh\nPYTHONPATH={root} exec {sys.executable} -m layersmith "$@"\n'
    (bin_ / "layersmith").write_text(script)
    (bin_ / "layersmith").chmod(0o755)
    yield os.environ | {"PATH": f"{bin_}:{os.environ['PATH']}", "HOME": str(project), "TERM": "dumb"}


CASES = [
    ("layersmith imag", "images"),
    ("layersmith build --target com", "compile"),
    ("layersmith build --target=com", "compile"),
    ("layersmith run web:", "web:1.2"),
    ("layersmith build --progress js", "json"),
    ("layersmith manifest cr", "create"),
    ("layersmith build -f Build", "Buildfile"),
]
"""A line, and the word that its end becomes."""


@pytest.mark.interop
@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(("line", "word"), CASES)
def test_bash(shell_path: dict[str, str], line: str, word: str) -> None:
    """An interactive bash, a tab: the line is complete."""
    said = typed(
        ["bash", "--norc", "--noprofile", "-i"], shell_path, "source <(layersmith completion bash)", line
    )
    assert_completed(said, line, word)


@pytest.mark.interop
@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
@pytest.mark.parametrize(("line", "word"), CASES)
def test_zsh(shell_path: dict[str, str], line: str, word: str) -> None:
    """An interactive zsh, a tab: the line is complete."""
    setup = "autoload -U compinit; compinit -u -D; source <(layersmith completion zsh)"
    assert_completed(typed(["zsh", "-f", "-i"], shell_path, setup, line), line, word)


@pytest.mark.interop
@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
@pytest.mark.parametrize(("line", "word"), CASES)
def test_fish(shell_path: dict[str, str], line: str, word: str) -> None:
    """fish says itself what it would offer."""
    script = f"layersmith completion fish | source; complete -C '{line}'"
    done = subprocess.run(
        ["fish", "-N", "-c", script], capture_output=True, text=True, env=shell_path, timeout=60
    )
    words = [found.split("\t")[0] for found in done.stdout.splitlines()]
    assert any(found in (word, f"--target={word}") for found in words), done.stderr


def assert_completed(said: str, line: str, word: str) -> None:
    kept = line[: -len(line.split()[-1])] if not line.endswith("=com") else line.removesuffix("com")
    # What a terminal would show: zsh takes its blank back before punctuation, and there are colours and bells.
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x07| \x08", "", said).replace(" |", "|")
    assert f"{kept}{word}|" in shown, said


def typed(command: list[str], env: dict[str, str], setup: str, line: str) -> str:
    """What ``command`` makes of ``line``, a tab and ``|``, as the terminal shows it."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(command[0], command, env)
    try:
        os.write(terminal, f"PS1='ready'\"> \"\n{setup}; echo set'-'up\n".encode())
        wait_for(terminal, "set-up", seconds=30)
        os.write(terminal, f"{line}\t".encode())
        time.sleep(1.5)  # the shell asks layersmith meanwhile; what comes too early would go to that
        os.write(terminal, b"|")
        return wait_for(terminal, "|", seconds=20)
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(terminal)


def wait_for(terminal: int, text: str, *, seconds: float) -> str:
    """What comes until ``text`` does, and a little more."""
    said = ""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if select.select([terminal], [], [], 0.5)[0]:
            said += os.read(terminal, 65536).decode(errors="replace")
        elif text in said:
            break
    return said
