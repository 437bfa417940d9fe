"""A `Sandbox` as an OCI bundle: what runtimes are told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from layersmith.errors import SandboxError, UsageError
from layersmith.linux import bundle, caps, seccomp
from layersmith.linux.oci_runtime import OciRunning
from layersmith.linux.runtime import find
from layersmith.linux.sandbox import DEFAULT_CAPABILITIES, Rlimit, Sandbox
from layersmith.linux.users import Identity
from layersmith.oci.process import Process

ROOT = Identity(0, 0)
EVERYTHING = caps.bits(caps.ALL)


def config(sandbox: Sandbox, identity: Identity = ROOT, permitted: int = EVERYTHING) -> dict[str, Any]:
    made = bundle.config(
        sandbox,
        identity,
        [bundle.Prepared("/here", "/there", ("ro", "nodev"))],
        permitted=permitted,
        cgroups_path=None,
        console_size=(30, 100),
        machine="x86_64",
    )
    return dict(json.loads(json.dumps(made)))


def sandbox(**settings: Any) -> Sandbox:
    return Sandbox("/", Process(("sh", "-c", "true"), (("A", "1"),), "/srv", "app"), **settings)


def test_process() -> None:
    """Arguments, variables (HOME from passwd), directory, ids and limits."""
    limits = (Rlimit("nofile", 10, -1),)
    process = config(sandbox(rlimits=limits), Identity(5, 6, (7, 8), "/home/app"))["process"]
    assert process["args"] == ["sh", "-c", "true"]
    assert process["env"] == ["HOME=/home/app", "A=1"]
    assert process["cwd"] == "/srv"
    assert process["user"] == {"uid": 5, "gid": 6, "additionalGids": [7, 8]}
    assert process["rlimits"] == [{"type": "RLIMIT_NOFILE", "soft": 10, "hard": (1 << 64) - 1}]
    assert "consoleSize" not in process
    assert config(sandbox(tty=True))["process"]["consoleSize"] == {"height": 30, "width": 100}


def test_capabilities_of_root_and_others() -> None:
    """Root has them, anybody else could get them back by a set-id program; nobody gets what the caller lacks."""
    root = config(sandbox())["process"]["capabilities"]
    assert set(root["effective"]) == set(root["bounding"]) == DEFAULT_CAPABILITIES
    other = config(sandbox(), Identity(5, 5))["process"]["capabilities"]
    assert other["effective"] == other["permitted"] == []
    assert set(other["bounding"]) == DEFAULT_CAPABILITIES
    few = config(sandbox(insecure=True), permitted=caps.bits(["CAP_CHOWN"]))["process"]["capabilities"]
    assert few["bounding"] == ["CAP_CHOWN"]


@pytest.mark.parametrize(
    ("network", "expected"),
    [("host", None), ("none", {"type": "network"}), ("/n", {"type": "network", "path": "/n"})],
)
def test_namespaces(network: str, expected: dict[str, str] | None) -> None:
    """All but the network's always; the network's as asked."""
    found = config(sandbox(network=network))["linux"]["namespaces"]
    assert {n["type"] for n in found} - {"network"} == {"pid", "ipc", "uts", "mount", "cgroup"}
    assert [n for n in found if n["type"] == "network"] == ([expected] if expected else [])


def test_insecure_has_no_masks_and_no_filter() -> None:
    safe, insecure = config(sandbox())["linux"], config(sandbox(insecure=True))["linux"]
    assert "/proc/kcore" in safe["maskedPaths"]
    assert "/proc/sys" in safe["readonlyPaths"]
    assert safe["seccomp"]["defaultAction"] == "SCMP_ACT_ERRNO"
    assert (insecure["maskedPaths"], insecure["readonlyPaths"], "seccomp" in insecure) == ([], [], False)


def test_mounts_keep_what_they_refuse() -> None:
    """A read-only mount is bound read-only: a bind by itself would not keep that."""
    mount = config(sandbox())["mounts"][-1]
    assert (mount["source"], mount["destination"]) == ("/here", "/there")
    assert {"rbind", "ro", "nodev"} <= set(mount["options"])


def test_seccomp_profile_allows_what_the_filter_allows() -> None:
    """No call that the built-in filter refuses is allowed, and all others are, with conditions where it has some."""
    for capabilities in (frozenset[str](), DEFAULT_CAPABILITIES, caps.ALL):
        rules = bundle.seccomp_profile(capabilities, "x86_64")["syscalls"]
        allowed = {name for rule in rules if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}
        plain = {name for rule in rules if "args" not in rule for name in rule["names"]}
        assert not allowed & seccomp.refused(capabilities)
        assert {"read", "execve", "openat", "socket", "ioctl", "personality", "clone"} <= allowed
        assert not plain & {"socket", "ioctl", "personality"}
        assert ("clone" in plain) == ("CAP_SYS_ADMIN" in capabilities)
        assert ("mount" in allowed) == ("CAP_SYS_ADMIN" in capabilities)


@pytest.mark.parametrize(
    ("message", "status"),
    [
        ("executable file `nosuch` not found in $PATH: No such file or directory", 127),
        (
            'runc run failed: unable to start container process: exec: "x": executable file not found in $PATH',
            127,
        ),
        ('unable to start container process: exec: "/x": stat /x: no such file or directory', 127),
        ("open executable: Operation not permitted", 126),
        ('unable to start container process: exec: "/etc": permission denied', 126),
        ("exec container process `/x`: Exec format error", 126),
    ],
)
def test_failures_to_execute_have_their_statuses(message: str, status: int) -> None:
    assert OciRunning.explain(message) == status


@pytest.mark.parametrize(
    "message", ["mount `proc` to `proc`: Permission denied", "open /x: no such file or directory"]
)
def test_other_failures_are_the_runtimes(message: str) -> None:
    """What the runtime could not set up is not the command's fault."""
    with pytest.raises(SandboxError, match="OCI runtime failed"):
        OciRunning.explain(message)


def test_find(monkeypatch: pytest.MonkeyPatch) -> None:
    """oci is the first that is installed; what is not is an error that names it."""
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}" if name == "runc" else None)
    assert find("oci") == "/bin/runc"
    assert find("oci:runc") == "/bin/runc"
    with pytest.raises(UsageError, match="crun is installed"):
        find("oci:crun")
    with pytest.raises(UsageError, match="unknown isolation"):
        find("vm")
