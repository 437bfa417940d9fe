"""The container commands where nothing has to run: help, wrong usage, and a store without containers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

Load = Callable[..., str]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run"], "the following arguments are required: IMAGE"),
        (["run", "--rmm", "demo"], "did you mean --rm?"),
        (["run", "--network", "bridge", "demo"], "invalid choice: 'bridge'"),
        (["run", "-v", "data:/data", "demo"], "there are no named volumes"),
        (["run", "--mount", "type=volume,target=/x", "demo"], "no named volumes"),
        (["run", "--cap-add", "NONSENSE", "--pull", "never", "demo"], "unknown capability"),
        (["run", "--ulimit", "nofile", "demo"], "invalid ulimit"),
        (["run", "--memory", "lots", "demo"], "--memory: 'lots' is not a size"),
        (["run", "--cpus", "1.5x", "demo"], "--cpus: '1.5x' is not a number"),
        (["run", "--security-opt", "apparmor=x", "demo"], "unknown --security-opt"),
        (["run", "--isolation", "oci", "--init", "demo"], "--init is the built-in isolation's own"),
        (["run", "-it", "demo"], "standard input is not a terminal"),
        (["exec", "box"], "exec needs a command"),
        (["exec", "box", "true"], "no container 'box'"),
    ],
)
def test_wrong_usage_has_the_status_of_no_command(
    cli: Any, load: Load, words: list[str], message: str
) -> None:
    """What layersmith itself refuses ends with 125 and says why, for 1 to 124 are the command's own."""
    load("demo", {"bin/sh": b""}, Cmd=["/bin/sh"])
    assert message in cli.error(*words, status=125)


@pytest.mark.parametrize("command", ["logs", "stop", "kill", "wait", "rm", "start"])
def test_no_such_container(cli: Any, command: str) -> None:
    """A container that is not there is status 5, and how to find those that are."""
    assert "`layersmith ps -a`" in cli.error(command, "nosuch", status=5)


def test_rm_force_forgives(cli: Any) -> None:
    assert cli("rm", "-f", "nosuch") == ""


def test_ps_of_nothing(cli: Any) -> None:
    """Nothing is made, and nothing listed; json has no lines."""
    assert cli("ps").split() == ["CONTAINER", "ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "NAMES"]
    assert cli("ps", "-aq") == cli("ps", "-a", "--format", "json") == ""
    assert not cli.root.exists()


def test_cp_wants_one_side_in_a_container(cli: Any) -> None:
    for words in (("a", "b"), ("x:/a", "y:/b"), ("./x:y", "/b:c")):
        assert "one side must be a container's" in cli.error("cp", *words, status=2)


def test_ps_shows_what_is_on_disk(cli: Any) -> None:
    """A container that never ran, made by the library, as a table and as json."""
    from layersmith.containers.config import ContainerConfig
    from layersmith.containers.container import Containers
    from layersmith.oci.descriptor import Descriptor
    from layersmith.oci.digest import digest_of
    from layersmith.oci.process import Process

    def make(id: str, name: str) -> ContainerConfig:
        manifest = Descriptor("application/vnd.oci.image.manifest.v1+json", digest_of(b"x"), 1)
        return ContainerConfig(id, name, "demo", manifest, 1_700_000_000.0, Process(("sh", "-c", "a b")))

    with Containers(cli.root).create(make, "one"):
        pass
    (record,) = (json.loads(line) for line in cli("ps", "-a", "--format", "json").splitlines())
    assert (record["Names"], record["Image"], record["State"]) == ("one", "demo", "created")
    assert record["Command"] == "sh -c 'a b'"
    assert record["CreatedAt"] == "2023-11-14T22:13:20Z"
    assert cli("ps") == cli("ps", "--filter", "status=running")
    assert cli("ps", "-a", "--filter", "name=on", "--filter", "ancestor=demo", "-q").strip() == record["ID"]
    assert cli("ps", "-aq", "--filter", "label=x") == ""
    assert "unknown filter" in cli.error("ps", "--filter", "colour=red", status=2)
    assert cli("wait", "one") == "0\n"
    assert cli("logs", "one") == ""
