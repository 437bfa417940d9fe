"""What surrounds a build's commands: network, limits, capabilities; as root, rootless, and by OCI runtimes."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from box import BUSYBOX, MODES, Box, boxed, dead_groups, leftovers
from program import Layersmith

pytestmark = [
    pytest.mark.skipif(BUSYBOX is None, reason="needs a static busybox"),
    pytest.mark.xdist_group("machine"),
]

NAMESPACE = "RUN readlink /proc/self/ns/net\n"
EATS = "head -c 100000000 /dev/zero | tail -c 100000000 | wc -c"
Build = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture(scope="module", params=MODES)
def box(request: pytest.FixtureRequest) -> Iterator[Box]:
    """Each way to run commands; in the end nothing is left of any of them."""
    before = dead_groups()
    with boxed(request.param) as made:
        yield made
        assert leftovers(made, known=before) == []


@pytest.fixture
def build(box: Box) -> Build:
    """``build(text, *flags)``: what became of a build of ``text`` on busybox."""

    def run(text: str, *flags: str) -> subprocess.CompletedProcess[bytes]:
        done = box.raw(
            "build",
            "--no-cache",
            "--progress=plain",
            *flags,
            "-f",
            "-",
            ".",
            stdin=f"FROM busybox\n{text}".encode(),
        )
        assert b"Traceback" not in done.stderr
        return done

    return run


def namespaces(done: subprocess.CompletedProcess[bytes]) -> list[str]:
    """What the steps said of their network namespaces."""
    assert done.returncode == 0, done.stderr.decode()
    said = (done.stdout + done.stderr).decode()
    return [word for line in said.splitlines() for word in line.split() if word.startswith("net:[")]


def test_default_is_one_network_for_all_steps(build: Build) -> None:
    """Their own, not the host's, with a route out of it and a name server that can be reached."""
    done = build(NAMESPACE + NAMESPACE + "RUN ip route; cat /etc/resolv.conf")
    first, second = namespaces(done)
    assert first == second
    if b"steps use the host's network" in done.stderr:
        assert done.stderr.count(b"steps use the host's network") == 1
        pytest.skip("needs pasta or slirp4netns, and /dev/net/tun")
    assert first != os.readlink("/proc/self/ns/net")
    assert b"default via" in done.stderr
    assert b"nameserver 10.0.2.3" in done.stderr


def test_without_a_helper_it_is_the_hosts(box: Box, build: Build) -> None:
    """Which is said once, however many steps there are."""
    programs = box.home / "programs"
    programs.mkdir(exist_ok=True)
    for name in ("newuidmap", "newgidmap", "crun", "runc", "unshare", "sh", "umount"):
        found = shutil.which(name)
        if found and not (programs / name).exists():
            (programs / name).symlink_to(found)
    path = box.env["PATH"]
    try:
        box.env["PATH"] = os.fspath(programs)
        done = build(NAMESPACE + NAMESPACE)
    finally:
        box.env["PATH"] = path
    assert set(namespaces(done)) == {os.readlink("/proc/self/ns/net")}
    assert done.stderr.count(b"steps use the host's network; install pasta or slirp4netns") == 1


def test_none_and_host(box: Box, build: Build) -> None:
    """For the build, and for a step, whose own word counts; ``none`` has a loopback that works. The record tells."""
    here = os.readlink("/proc/self/ns/net")
    assert namespaces(build(NAMESPACE, "--network=host")) == [here]
    assert '"network": "host"' in box("builds", "inspect", box("builds", "-q").split()[0])
    assert namespaces(build(NAMESPACE.replace("RUN", "RUN --network=host"), "--network=none")) == [here]
    done = build(
        "RUN ip -o addr | grep -v ' lo ' ; ping -c1 127.0.0.1 && ls /sys/class/net", "--network=none"
    )
    assert done.returncode == 0, done.stderr.decode()
    assert b"eth0" not in done.stderr
    assert b"1 packets received" in done.stderr


def test_name_servers_of_the_command_line(build: Build) -> None:
    """--dns is what resolv.conf has, and nothing else."""
    done = build("RUN cat /etc/resolv.conf", "--dns", "192.0.2.53")
    assert [line.split()[-1] for line in done.stderr.splitlines() if b" nameserver " in line] == [
        b"192.0.2.53"
    ]


def can_limit(done: subprocess.CompletedProcess[bytes]) -> bool:
    """Whether this user's limits were set; if not, that is an error with what to do."""
    if b"control" not in done.stderr or done.returncode != 8:
        return True
    assert b"Delegate=yes" in done.stderr
    return False


def test_out_of_memory_is_told_with_its_limit(build: Build) -> None:
    """What fails for it says so; what survives it is warned of; and the limit is each step's own."""
    done = build(f"RUN set -o pipefail; {EATS}", "--memory=16m", "--memory-swap=16m")
    if not can_limit(done):
        return
    assert done.returncode == 4, done.stderr.decode()
    assert b"at the limit of 16777216 bytes (--memory)" in done.stderr
    done = build(f"RUN {EATS}; true\nRUN true", "-m", "16m", "--memory-swap=16m")
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr.count(b"memory ran out") == 1


def test_limits_of_processors_and_processes(build: Build) -> None:
    """What the command sees, or runs into."""
    flags = ("--cpuset-cpus=0", "--cpus=0.5", "--cpu-shares=512", "--pids-limit=30")
    done = build(
        "RUN grep Cpus_allowed_list /proc/self/status; for i in $(seq 60); do sleep 1 & done; wait", *flags
    )
    if not can_limit(done):
        return
    assert b"Cpus_allowed_list:\t0\n" in done.stderr
    assert b"can't fork" in done.stderr


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--memory=lots",), "--memory"),
        (("--memory-swap=1g",), "--memory-swap needs --memory"),
        (("-m", "2g", "--memory-swap=1g"), "--memory-swap is less than --memory"),
        (("--cpus=1", "--cpu-quota=1000"), "--cpus says the same"),
        (("--cpus=-3",), "not a number"),
        (("--cap-add=FLY",), "unknown capability"),
        (("--ulimit=nofile",), "invalid ulimit"),
        (("--ulimit=wings=2",), "unknown resource limit"),
        (("--security-opt=magic",), "unknown --security-opt"),
        (("--isolation=chroot",), "unknown isolation"),
        (("--isolation=oci:no-such",), "no OCI runtime no-such"),
        (("--network=bridge",), "unknown network"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(
    layersmith: Layersmith, context: Path, flags: tuple[str, ...], says: str
) -> None:
    """A wrong command line: status 2, whatever the cache has."""
    (context / "Buildfile").write_text("FROM scratch\nRUN true\n")
    done = layersmith("build", *flags, context, status=2)
    assert says in done.stderr
    assert "RUN true" not in done.stderr


def effective(done: subprocess.CompletedProcess[bytes]) -> int:
    assert done.returncode == 0, done.stderr.decode()
    return int(done.stderr.decode().split("CapEff:")[1].split()[0], 16)


def test_capabilities_and_security_options(build: Build) -> None:
    """Docker's default; less and more of it; filter and new privileges switched."""
    show = "RUN grep -E 'CapEff|Seccomp:|NoNewPrivs' /proc/self/status; ulimit -n"
    assert effective(build(show)) == 0xA80425FB
    assert effective(build(show, "--cap-drop=ALL", "--cap-add=CHOWN")) == 1
    assert effective(build(show, "--cap-add=net_admin")) == 0xA80425FB | 1 << 12
    done = build(
        show, "--security-opt=no-new-privileges", "--ulimit=nofile=77", "--security-opt=seccomp=unconfined"
    )
    text = done.stderr.decode()
    assert "NoNewPrivs:\t1" in text
    assert "Seccomp:\t0" in text
    assert " 77\n" in text


def test_limits_change_no_key_and_capabilities_do(box: Box, build: Build) -> None:
    """A limit is no part of what a step makes; what the step may do is."""
    text = b"FROM busybox\nRUN echo keyed\n"
    words = ("build", "-f", "-", ".")
    box.raw(*words, stdin=text)
    ran = b"#1 DONE"
    assert ran not in box.raw("build", "--cpus=0.5", *words[1:], stdin=text).stderr
    assert ran in box.raw("build", "--cap-drop=CHOWN", *words[1:], stdin=text).stderr


# The whole life of an image, as an ordinary user

OWNERS = """\
COPY --chown=0:65534 data /data
RUN touch /zero /nobody /user && chown 65534:65534 /nobody && chown 1000:1000 /user && chmod 4755 /user
RUN mkdir -p /d/e && rm /etc/motd && ln -s ../zero /d/link && rm -rf /var && mkdir /var
"""


def digest_with_owners(box: Box) -> list[str]:
    """The layer digests of OWNERS, built by ``box``."""
    context = box.home / "owners"
    context.mkdir(exist_ok=True)
    (context / "data").write_text("data\n")
    (context / "data").chmod(0o644)
    (context / "Buildfile").write_text(f"FROM busybox\n{OWNERS}")
    box("build", "--source-date-epoch", "1700000000", "-t", "owners", os.fspath(context))
    lines = box("layers", "owners", "--format", "json").splitlines()
    return [json.loads(line)["Digest"] for line in lines]


def test_the_same_layers_as_roots(box: Box) -> None:
    """Whoever builds it, owners and digests are the same; with a single id, why they can't be is explained."""
    if box.mode == "single":
        done = box.raw("build", "-f", "-", ".", stdin=b"FROM busybox\nRUN touch /f && chown 1000:1000 /f\n")
        assert done.returncode == 4
        assert b"only one user id is available" in done.stderr
        return
    with boxed("root") as root:
        assert digest_with_owners(box) == digest_with_owners(root)
    seen = box("run", "--rm", "owners", "stat", "-c", "%n %u:%g %a", "/data", "/zero", "/nobody", "/user")
    assert seen.splitlines() == [
        "/data 0:65534 644",
        "/zero 0:0 644",
        "/nobody 65534:65534 644",
        "/user 1000:1000 4755",
    ]


def test_export_mount_and_rmi(box: Box) -> None:
    """The rest of an image's life needs no root either; nothing of it stays."""
    box("build", "-t", "whole", "-f", "-", ".", stdin=b"FROM busybox\nRUN echo whole > /file\n")
    box("export", "whole", "-o", "whole.tar")
    box("load", "whole.tar")
    assert box("mount", "whole", "--", "cat", "merged/file") == "whole\n"
    box("rmi", "whole")
    box.error("run", "whole", status=125)


def test_builds_that_are_killed_leave_nothing(box: Box) -> None:
    """Nothing is left of builds that SIGKILL ended at any moment, once the next one has run."""
    random.seed(4)
    text = "FROM busybox\n" + "".join(f"RUN echo {n} > /file\n" for n in range(10))
    for _ in range(6):
        with box.popen(
            "build", "--no-cache", "-f", "-", ".", stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            assert process.stdin is not None
            process.stdin.write(text.encode())
            process.stdin.close()
            time.sleep(random.uniform(0.05, 0.6))
            process.kill()
    done = box.raw("build", "--no-cache", "-f", "-", ".", stdin=text.encode())
    assert done.returncode == 0, done.stderr.decode()
