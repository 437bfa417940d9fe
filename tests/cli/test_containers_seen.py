"""Containers where images are looked at: ``diff``, ``inspect``, and what ``rmi`` and ``prune`` leave to them."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = pytest.mark.root


@pytest.fixture
def box(cli: Any) -> Any:
    """A store with an image of this machine's shell, and a container ``box`` of it that has ended."""
    cli("import", "--host", "sh", "rm", "mkdir", "cat", "base")
    cli(
        "run",
        "--name",
        "box",
        "base",
        "sh",
        "-c",
        "echo hi > /new; mkdir /d; rm /etc/group; exit 3",
        status=3,
    )
    return cli


def test_diff_of_a_container(box: Any) -> None:
    """Its own changes only, as docker diff tells them; raw, the upper directory itself."""
    assert box("diff", "box").splitlines() == ["A /d", "C /etc", "D /etc/group", "A /new"]
    raw = box("diff", "--raw", "box")
    assert "etc/group   # deletes /etc/group" in raw
    kinds = [json.loads(line)["Kind"] for line in box("diff", "--format", "json", "box").splitlines()]
    assert kinds == ["A", "C", "D", "A"]


def test_inspect_of_a_container(box: Any) -> None:
    """Dockers members; a container comes before an image of the same name, unless --type says otherwise."""
    wanted = "{{.State.Status}} {{.State.ExitCode}} {{.Config.Image}} {{.Path}}"
    assert box("inspect", "-f", wanted, "box") == "exited 3 base sh\n"
    box("tag", "base", "box")
    assert json.loads(box("inspect", "box"))[0]["Name"] == "box"
    assert json.loads(box("inspect", "--type", "image", "box"))[0]["RepoTags"] == [
        "base:latest",
        "box:latest",
    ]
    assert "no container 'base'" in box.error("inspect", "--type", "container", "base", status=5)


def test_a_container_keeps_its_image(box: Any) -> None:
    """The last name is not taken away by accident; if it is on purpose, the container still starts after a prune."""
    assert "container box" in box.error("rmi", "base", status=2)
    box("rmi", "-f", "base")
    box("prune", "--all")
    assert box("images", "-q") == ""
    assert "A /new" in box("diff", "box").splitlines()
    box("start", "-a", "box", status=3)
    box("rm", "box")
    box("prune", "--all")
    assert not any((box.root / "blobs" / "sha256").iterdir())
