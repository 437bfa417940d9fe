"""`doctor`: every finding that is not ``ok`` says what to do about it, and what can't work is never called ``ok``."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from layersmith.linux import doctor, userns
from layersmith.linux.cgroups import Hierarchy
from layersmith.linux.doctor import OK, PROBLEM, WARNING

Command = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(
    ("release", "status"),
    [("6.18.44-fc", OK), ("5.12.0", OK), ("5.11.22-generic", PROBLEM), ("4.19", PROBLEM)],
)
def test_kernel(release: str, status: str) -> None:
    """Older kernels lack a call that no sandbox can do without."""
    assert doctor.kernel(release).status == status


def test_user_namespaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A switch that is off, ranges that are missing or small, and a newuidmap without rights are each named."""
    name = userns.user_name(os.geteuid())
    (tmp_path / "sys/user").mkdir(parents=True)
    (tmp_path / "sys/user/max_user_namespaces").write_text("0\n")
    (tmp_path / "subuid").write_text(f"{name}:100000:1000\nother:1:70000\n")
    plain = tmp_path / "newuidmap"
    plain.touch(mode=0o755)
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    found = {f.topic: f for f in doctor.user_namespaces(tmp_path, tmp_path)}
    assert found["user namespaces"].status == PROBLEM
    assert "max_user_namespaces=15000" in found["user namespaces"].advice
    assert "1000 ids" in found["subuid"].found
    assert f"--add-subgids 100000-165535 {name}" in found["subgid"].advice
    assert found["newuidmap"].advice == f"as root: chmod u+s {plain}"
    assert found["newgidmap"].advice == "install uidmap"
    (tmp_path / "subuid").write_text(f"{os.geteuid()}:100000:65536\n")
    (tmp_path / "sys/user/max_user_namespaces").write_text("15000\n")
    again = {f.topic: f.status for f in doctor.user_namespaces(tmp_path, tmp_path)}
    assert (again["user namespaces"], again["subuid"]) == (OK, OK)


def test_control_groups(tmp_path: Path) -> None:
    """Missing controllers are named; those of a group that can't be written to count as missing."""
    assert "no limits" in doctor.control_groups(()).found
    some = Hierarchy(2, tmp_path, frozenset(["memory", "pids"]))
    assert doctor.control_groups((some,)).found == "v2, can't limit cpu, cpuset"
    every = Hierarchy(2, tmp_path, frozenset(doctor.CONTROLLERS))
    assert doctor.control_groups((every,)).status == OK
    gone = Hierarchy(2, tmp_path / "gone", frozenset(doctor.CONTROLLERS))
    assert doctor.control_groups((gone,)).status == WARNING


def test_network_and_runtimes_without_programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing installed: what to install; an OCI runtime is nobody's need."""
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    assert "passt" in doctor.network().advice
    assert doctor.oci_runtimes().status == OK


def test_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Little room and few inodes are warned of, for a store that does not exist yet as well."""
    real = {"f_bavail": 1 << 20, "f_frsize": 4096, "f_files": 10**6, "f_favail": 10**6}
    for change, word in (({}, "free"), ({"f_bavail": 1}, "0.0 GiB"), ({"f_favail": 9}, "9 inodes")):
        room = SimpleNamespace(**{**real, **change})
        monkeypatch.setattr(os, "statvfs", lambda _, room=room: room)
        finding = doctor.disk(tmp_path / "not/yet")
        assert word in finding.found
        assert (finding.status == OK) == (not change)
    monkeypatch.undo()
    assert doctor.seccomp(tmp_path).status == PROBLEM


@pytest.fixture
def place_for_all() -> Iterator[Path]:
    """A directory that every user may write to; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(dir="/tmp") as path:
        os.chmod(path, 0o777)
        yield Path(path)


@pytest.mark.parametrize("mode", ["root", "rootless", "single"])
def test_the_command(linux_command: Command, mode: str, place_for_all: Path) -> None:
    """A sandbox is started, as whoever calls; where that works the status is 0, and what is wrong has advice."""
    root = str(place_for_all / "no-store")
    options = linux_command(mode, ["-m", "layersmith", "doctor", "--format", "json", "--root", root])
    done = subprocess.run(capture_output=True, text=True, timeout=60, **options)
    found = {entry["topic"]: entry for entry in json.loads(done.stdout)}
    assert all(entry["advice"] for entry in found.values() if entry["status"] != OK)
    assert done.returncode == any(entry["status"] == PROBLEM for entry in found.values())
    assert found["sandbox"]["status"] == (WARNING if mode == "single" else OK), found["sandbox"]
    assert ("subuid" in found) == (mode != "root")
    assert list(place_for_all.iterdir()) == []


def test_a_store_that_can_not_be(linux_command: Command) -> None:
    """Below /proc nothing can be written: a problem, no traceback, status 1; as text, too."""
    options = linux_command("root", ["-m", "layersmith", "doctor", "--root", "/proc/store"])
    done = subprocess.run(capture_output=True, text=True, timeout=60, **options)
    assert (done.returncode, done.stderr) == (1, "")
    assert "problem  sandbox" in done.stdout
    assert "-> choose another store with --root" in done.stdout
