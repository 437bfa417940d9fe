"""``build --call``: what a Buildfile is asked instead of being built."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

BUILDFILE = """\
# RELEASE which Debian
ARG RELEASE=bookworm
ARG UNUSED
FROM debian:$RELEASE AS base
# tools what others need to compile
FROM base AS Tools
# JOBS how many at once
ARG JOBS=2
# not a description of it
ARG OTHER
RUN --mount=type=secret,id=token,required --mount=type=ssh make
FROM base AS docs
RUN --mount=type=secret,target=/run/docs.key true
FROM base
COPY --from=tools /a /a
ARG RELEASE
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "Buildfile").write_text(BUILDFILE)
    return tmp_path


def test_targets(cli: Any, project: Path) -> None:
    """Each stage with the comment that begins with its name; the last is the default. Nothing is made."""
    lines = cli("build", "--call=targets", ".").splitlines()
    assert [line.split(maxsplit=1) for line in lines] == [
        ["TARGET", "DESCRIPTION"],
        ["base"],
        ["tools", "what others need to compile"],
        ["docs"],
        ["(default)"],
    ]
    found = json.loads(cli("build", "--call=targets,format=json"))["targets"]
    assert [(each["name"], each["base"], each["default"]) for each in found] == [
        ("base", "debian:$RELEASE", False),
        ("tools", "base", False),
        ("docs", "base", False),
        ("", "base", True),
    ]
    assert not cli.root.exists()


def test_an_outline(cli: Any, project: Path) -> None:
    """What the target and the stages below it take; a value given counts; other stages do not."""
    found = json.loads(cli("build", "--call=outline,format=json", "--build-arg", "JOBS=8", "."))
    assert [(each["name"], each["value"], each["description"]) for each in found["args"]] == [
        ("RELEASE", "bookworm", "which Debian"),
        ("UNUSED", "", ""),
        ("JOBS", "8", "how many at once"),
        ("OTHER", "", ""),
    ]
    assert found["secrets"] == [{"name": "token", "required": True}]
    assert found["ssh"] == [{"name": "default", "required": False}]
    said = cli("build", "--call=outline", "--target", "DOCS", ".")
    assert said.splitlines()[0] == "TARGET:      docs"
    assert "docs.key" in said
    assert "JOBS" not in said
    assert "DESCRIPTION: what others need" in cli("build", "--call=outline", "--target=tools")


def test_a_check(cli: Any, project: Path) -> None:
    """As docker's: a warning is enough to fail."""
    assert "StageNameCasing" in cli("build", "--check", ".", status=1)
    assert json.loads(cli("build", "--call=check,format=json", ".", status=1))[0]["line"] == 6
    (project / "Buildfile").write_text("FROM scratch\n")
    assert cli("build", "--check", ".") == ""


def test_what_can_not_be_asked(cli: Any, project: Path) -> None:
    """Says what can."""
    assert "outline" in cli.error("build", "--call=lint", status=2)
    assert "format=json" in cli.error("build", "--call=outline,format=xml", status=2)
    assert "could not be found" in cli.error("build", "--call=outline", "--target=none", status=2)
    assert "give it a directory" in cli.error(
        "build", "--call=outline", "https://example.com/x.git", status=2
    )
