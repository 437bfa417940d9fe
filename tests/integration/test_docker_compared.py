"""What a process sees of its sandbox, beside what it sees in Docker on the same image: the differences are listed here.

Needs a Docker daemon (DOCKER_HOST); tests/linux/DOCKER.md explains each difference.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from program import Layersmith

IMAGE = "layersmith-compared:test"
SHOW = (
    "grep -E '^(Cap|Seccomp:|NoNewPrivs)' /proc/self/status; ulimit -n; id; ls /dev | sort | xargs; "
    "echo mounts; cut -d' ' -f5,6 /proc/self/mountinfo | sort; "
    "echo namespaces; for n in mnt pid ipc uts net cgroup user; do readlink /proc/self/ns/$n; done"
)

WE_ADD = {"/dev/full", "/dev/null", "/dev/random", "/dev/tty", "/dev/urandom", "/dev/zero"}
"""Mounts of their own, so that everything else in /dev and the root file system can be nodev."""
DOCKER_DIFFERS = {
    "/",
    "/dev",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/proc/keys",
    "/proc/timer_list",
}
"""Stricter here, by nodev, nosuid and noexec."""

pytestmark = [pytest.mark.root, pytest.mark.xdist_group("docker")]


@pytest.fixture(scope="module")
def docker(busybox_tar: Path | None) -> Iterator[list[str]]:
    """The words that run IMAGE in Docker."""
    program = shutil.which("docker")
    if program is None or subprocess.run([program, "version"], capture_output=True).returncode:
        pytest.skip("needs docker, and a daemon that answers (DOCKER_HOST)")
    if busybox_tar is None:
        pytest.skip("needs a static busybox")
    with busybox_tar.open("rb") as archive:
        subprocess.run([program, "import", "-", IMAGE], stdin=archive, capture_output=True, check=True)
    yield [program, "run", "--rm", "--network=none", IMAGE]
    subprocess.run([program, "rmi", IMAGE], capture_output=True)


def sections(text: str) -> tuple[list[str], dict[str, str], list[str]]:
    """Status lines, mount point -> options, namespaces."""
    status, _, rest = text.partition("mounts\n")
    mounts, _, namespaces = rest.partition("namespaces\n")
    return status.splitlines(), dict(line.split() for line in mounts.splitlines()), namespaces.split()


def test_seen_from_inside(layersmith: Layersmith, base: str, docker: list[str]) -> None:
    """Capabilities, filter, limits, devices and namespaces are Docker's; mounts are, or are stricter."""
    theirs = subprocess.run([*docker, "sh", "-c", SHOW], capture_output=True, text=True, check=True).stdout
    ours = layersmith("run", "--rm", "--network=none", base, "sh", "-c", SHOW).stdout
    status, mounts, namespaces = sections(ours)
    their_status, their_mounts, their_namespaces = sections(theirs)
    assert status == their_status
    kinds = ("mnt", "pid", "ipc", "uts", "net", "cgroup", "user")
    host = [os.readlink(f"/proc/self/ns/{kind}") for kind in kinds]
    shared = {kind for kind, mine, outer in zip(kinds, namespaces, host, strict=True) if mine == outer}
    theirs_shared = {k for k, mine, outer in zip(kinds, their_namespaces, host, strict=True) if mine == outer}
    # On control groups of version 1 Docker leaves containers in the host's namespace of them.
    assert shared == theirs_shared - {"cgroup"}
    for point, options in their_mounts.items():
        if point.startswith("/sys/fs/cgroup") and point not in mounts:
            continue  # shown only where there are limits to read
        assert set(options.split(",")) - {"rw"} <= set(mounts[point].split(",")), point
        if mounts[point] != options:
            assert point in DOCKER_DIFFERS, (point, options, mounts[point])
    masked = {"/proc/interrupts"}  # by newer Docker versions
    assert mounts.keys() - their_mounts.keys() <= WE_ADD | masked
