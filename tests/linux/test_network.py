"""The network ``default``: a namespace of its own with a way out, or the host's with a reason."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

Command = Callable[..., dict[str, Any]]

PROGRAM = """
import json, os, shutil, socket, sys, tempfile, threading
from pathlib import Path
from layersmith.linux.network import HELPERS, DefaultNetwork
from layersmith.linux.sandbox import Sandbox
from layersmith.linux.spawner import Spawner
from layersmith.linux.userns import enter
from layersmith.oci.process import Process

enter()
base = Path(tempfile.mkdtemp(prefix="ls-"))
(base / "rootfs/bin").mkdir(parents=True)
shutil.copy(shutil.which("busybox"), base / "rootfs/bin/busybox")
script = sys.argv[2]
helpers = tuple(h for h in HELPERS if h.program == sys.argv[1])
with Spawner.start() as spawner, DefaultNetwork(spawner, base, helpers=helpers) as network:
    first = network.connect()
    assert network.connect() is first
    reader, writer = os.pipe()
    process = Process(("/bin/busybox", "sh", "-c", script), (("PATH", "/bin"),))
    sandbox = Sandbox(os.fspath(base / "rootfs"), process, network=first.network)
    with spawner.run(sandbox, stdin=reader, stdout=writer, stderr=writer) as running:
        status = running.wait()
    os.close(writer)
    print(json.dumps([first.network, first.nameservers, first.notice, os.read(reader, 65536).decode()]))
left = sorted(p.name for p in base.iterdir())
assert left == ["rootfs"], left
shutil.rmtree(base)
"""


def connect(linux_command: Command, helper: str, script: str, **more: Any) -> tuple[str, list[str], str, str]:
    if shutil.which("busybox") is None:
        pytest.skip("needs a static busybox")
    options = linux_command("root", ["-c", PROGRAM, helper, script])
    options["env"] |= more
    done = subprocess.run(capture_output=True, text=True, timeout=60, **options)
    assert done.stderr == ""
    network, servers, notice, output = json.loads(done.stdout)
    return network, servers, notice, output


@pytest.mark.parametrize("helper", ["slirp4netns", "pasta"])
def test_one_namespace_with_a_way_out(linux_command: Command, helper: str) -> None:
    """Steps see a loopback and one more interface with a default route, in a namespace that is not the host's."""
    if shutil.which(helper) is None:
        pytest.skip(f"needs {helper}")
    script = "busybox ip route; busybox ls /sys/class/net; busybox readlink /proc/self/ns/net"
    network, servers, notice, output = connect(linux_command, helper, script)
    *rest, namespace = output.split()
    if notice:
        pytest.skip(notice)
    assert network != "host"
    assert servers == ["10.0.2.3"]
    assert "default" in rest
    assert "lo" in rest
    assert namespace != os.readlink("/proc/self/ns/net")


def test_the_hosts_loopback_is_out_of_reach(linux_command: Command) -> None:
    """A server on the host's 127.0.0.1 can't be reached, neither there nor through the stack's own addresses."""
    import socket

    if shutil.which("slirp4netns") is None:
        pytest.skip("needs slirp4netns")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        script = f"for a in 127.0.0.1 10.0.2.2; do busybox nc -w 1 $a {port} </dev/null && echo reached; done; true"
        assert "reached" not in connect(linux_command, "slirp4netns", script)[3]


def test_without_a_helper_it_is_the_hosts(linux_command: Command) -> None:
    """And the notice says what to install."""
    network, servers, notice, output = connect(linux_command, "none", "busybox readlink /proc/self/ns/net")
    assert (network, servers) == ("host", [])
    assert notice.startswith("steps use the host's network; install")
    assert output.strip() == os.readlink("/proc/self/ns/net")


def test_a_helper_that_fails_is_named(linux_command: Command, tmp_path: Any) -> None:
    """With what it said."""
    program = tmp_path / "slirp4netns"
    program.write_text("#!/bin/sh\necho first >&2\necho no tun device >&2\nexit 1\n")
    program.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    network, _, notice, _ = connect(linux_command, "slirp4netns", "true", PATH=path)
    assert (network, notice) == ("host", "steps use the host's network: slirp4netns: no tun device")
