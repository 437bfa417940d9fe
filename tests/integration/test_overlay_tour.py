"""examples/overlay-tour/README.md: every command on the page is run, and must print what the page says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "examples" / "overlay-tour" / "README.md"
INSIDE = "tour$ "
MARK = "--8<--"

pytestmark = pytest.mark.root


@dataclass(frozen=True)
class Step:
    """A command of the page, whether it is typed inside of ``layersmith mount``, and what the page says it prints."""

    command: str
    inside: bool
    expected: str


def steps(page: str) -> list[Step]:
    found = []
    for block in re.findall(r"^```console\n(.*?)^```$", page, re.S | re.M):
        for prompt, command, output in re.findall(
            r"^(\$ |tour\$ )(.*)\n((?:(?!\$ |tour\$ ).*\n)*)", block, re.M
        ):
            found.append(Step(command, prompt == INSIDE, output))
    return found


def matches(expected: str, actual: str) -> bool:
    """Word by word: ``ls`` prints columns to a terminal only. ``…`` in a word is anything, alone also several words."""
    pattern = r"\s+".join(
        r".+?" if word == "…" else re.escape(word).replace("…", r"\S*") for word in expected.split()
    )
    return re.fullmatch(pattern, actual.strip(), re.S) is not None


def test_the_page_matches_what_a_reader_sees(tmp_path: Path) -> None:
    """From the import of the base to the end of the mount, in the page's order and on an empty store."""
    shim = tmp_path / "bin" / "layersmith"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m layersmith "$@"\n')
    shim.chmod(0o755)
    environment = os.environ | {
        "LAYERSMITH_ROOT": str(tmp_path / "store"),
        "PATH": f"{shim.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "SHELL": "/bin/sh",
        "LC_ALL": "C",
    }

    def shell(command: str, stdin: str = "") -> str:
        done = subprocess.run(
            ["sh", "-c", f"exec 2>&1; {command}"],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=environment,
            timeout=120,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}"
        return done.stdout

    page = steps(PAGE.read_text())
    typed = [step for step in page if step.inside]
    assert len(typed) > 10
    assert typed[-1].command == "exit"
    for step in page:
        if step.inside:
            continue
        if step.command != "layersmith mount tour":
            actual = shell(step.command)
            assert matches(step.expected, actual), f"$ {step.command}\n{actual}"
            continue
        script = "".join(f"echo '{MARK}'\n{inner.command}\n" for inner in typed)
        banner, *outputs = shell(step.command, script).split(f"{MARK}\n")
        for inner, actual in zip([step, *typed], [banner, *outputs], strict=True):
            assert matches(inner.expected, actual), f"{inner.command}\n{actual}"
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()


@pytest.mark.parametrize(
    ("expected", "actual", "same"),
    [
        ("a  b", "a\nb\n", True),
        ("sha256:…", "sha256:0123", True),
        ("total …", "total 4", True),
        ("total …", "total", False),
        ("a b", "a b c", False),
        ("… root", "x y root", True),
    ],
)
def test_matching(expected: str, actual: str, *, same: bool) -> None:
    """The comparison itself must be able to fail."""
    assert matches(expected, actual) is same
