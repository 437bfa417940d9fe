"""A hostile process in a sandbox: every way out that we know is tried from inside, as root and rootless.

`escape_attempts` is run by this machine's own Python, bound read-only into the sandbox.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ATTEMPTS = Path(__file__).with_name("escape_attempts.py")
pytestmark = pytest.mark.skipif(shutil.which("busybox") is None, reason="needs a static busybox")

DOCKER = {
    "mount_tmpfs": "EPERM",
    "mount_proc": "EPERM",
    "mount_cgroup": "EPERM",
    "mount_disk": "EPERM",
    "unmask_proc": "EPERM",
    "remount_sys_writable": "EPERM",
    "new_mount_api": "EPERM",
    "open_tree": "EPERM",
    "mount_setattr": "EPERM",
    "pivot_root": "EPERM",
    "raw_disk": "EPERM",
    "raw_disk_in_dev": "EPERM",
    "raw_disk_in_shm": "EACCES",
    "own_device_node": "escaped",
    "physical_memory": "EPERM",
    "kernel_log_device": "EPERM",
    "sysrq": "ENOENT",
    "core_pattern": "EROFS",
    "sysctl": "EROFS",
    "modprobe_path": "ENOENT",
    "uevent_helper": "ENOENT",
    "power_state": "EROFS",
    "kernel_memory": "ENOENT",
    "key_list": "EACCES",
    "firmware": "EACCES",
    "cgroup_release_agent": "ENOENT",
    "clone_user_namespace": "EPERM",
    "clone_mount_namespace": "EPERM",
    "clone3": "ENOSYS",
    "unshare_user": "EPERM",
    "unshare_mount": "EPERM",
    "setns_init": "EPERM",
    "keyctl": "EPERM",
    "add_key": "EPERM",
    "request_key": "EPERM",
    "bpf": "EPERM",
    "perf_event_open": "EPERM",
    "kexec_load": "EPERM",
    "init_module": "EPERM",
    "reboot": "EPERM",
    "swapon": "EPERM",
    "iopl": "EPERM",
    "settimeofday": "EPERM",
    "open_by_handle_at": "EPERM",
    "userfaultfd": "EPERM",
    "io_uring": "EPERM",
    "no_address_randomisation": "EPERM",
    "kernel_log": "EPERM",
    "accounting": "EPERM",
    "virtual_machine_socket": "EPERM",
    "x32_call": "ENOSYS",
    "ptrace_init": "escaped",
    "memory_of_init": "escaped",
    "program_of_init": "escaped",
    "environment_of_init": "escaped",
    "descriptors_of_init": "escaped",
    "root_of_init": "ENOENT",
    "signal_the_host": "ESRCH",
    "foreign_processes": "EACCES",
    "canary_on_the_host": "ENOENT",
    "the_upper_directory": "ENOENT",
    "leaked_descriptor": "ENOENT",
    "write_to_read_only_mount": "EROFS",
    "type_into_a_terminal": "escaped",
    "host_name": "EPERM",
    "abstract_socket_of_the_host": "ECONNREFUSED",
    "kill_init": "EACCES",
    "chroot_and_climb": "EACCES",
}
"""What Docker 26 answers to the same program (``--network=none``, Linux 6.18). PID 1 is the program itself there, so
that what it does to PID 1 it does to itself."""


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("escape_attempts", ATTEMPTS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


NAMES = tuple(load().ATTEMPTS)

PREPARE = """
import sys
from layersmith.linux.mounts import Bind, File
(base / 'canary').write_text('secret')
places = {'/usr', '/lib', '/lib64', sys.prefix, sys.base_prefix}
binds = [Bind(p, p, readonly=True) for p in sorted(places) if __import__('os').path.isdir(p)]
program = __import__('pathlib').Path(@ATTEMPTS@).read_bytes()
env = (('PATH', '/bin'), ('CANARY', str(base / 'canary')), ('HOST_PID', @PID@), ('READ_ONLY', '/usr'),
       ('ABSTRACT', @ABSTRACT@))
args = (sys.executable, '/escape_attempts.py')
return {'mounts': (*binds, File('/escape_attempts.py', program)), 'args': args, 'env': env}
"""


@pytest.fixture(scope="module")
def abstract_socket() -> Iterator[str]:
    """A listening abstract socket in the host's network namespace."""
    name = f"layersmith-escape-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0" + name)
        server.listen()
        yield name


@functools.cache
def outcomes(mode: str, init: bool, abstract: str, insecure: tuple[str, ...] = ()) -> dict[str, str]:
    """attempt -> how it ended, in one sandbox; only those of ``insecure``, in an insecure one, if any."""
    import importlib

    conftest = importlib.util.spec_from_file_location("linux_conftest", ATTEMPTS.with_name("conftest.py"))
    assert conftest is not None
    assert conftest.loader is not None
    module = importlib.util.module_from_spec(conftest)
    conftest.loader.exec_module(module)
    replaced = {
        "@ATTEMPTS@": repr(os.fspath(ATTEMPTS)),
        "@PID@": repr(str(os.getpid())),
        "@ABSTRACT@": repr(abstract),
    }
    prepare = functools.reduce(lambda text, pair: text.replace(*pair), replaced.items(), PREPARE)
    prepare = prepare.replace("'/escape_attempts.py')", f"'/escape_attempts.py', *{insecure})")
    request = {"prepare": prepare, "network": "none", "init": init, "insecure": bool(insecure)}
    result = module.run_boxes(mode, request)[0]
    assert result.get("status") == 0, result
    found: dict[str, Any] = json.loads(result["output"])
    return found


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", ["root", "rootless", "single", "chroot"])
def test_attempt_fails(mode: str, name: str, abstract_socket: str) -> None:
    """The attempt is held back with an error; it neither succeeds nor breaks on the way."""
    ended = outcomes(mode, True, abstract_socket)[name]
    assert ended.startswith("E"), f"{name}: {ended}"
    assert not ended.startswith("escaped"), f"{name}: {ended}"


def test_docker_has_an_answer_to_each() -> None:
    """Every attempt is listed with Docker's answer."""
    assert set(DOCKER) == set(NAMES)
    listed = ATTEMPTS.with_name("DOCKER.md").read_text()
    assert [
        name for name in NAMES if f"| {name} |" not in listed or f"| {DOCKER[name]} |" not in listed
    ] == []


@pytest.mark.root
def test_the_attempts_are_real(abstract_socket: str) -> None:
    """The same program in an insecure sandbox does get what a plain sandbox refuses: the attempts can succeed.

    Those that would change the host are not tried.
    """
    real = (
        "own_device_node",
        "mount_tmpfs",
        "mount_proc",
        "new_mount_api",
        "unshare_user",
        "clone_mount_namespace",
        "keyctl",
    )
    found = outcomes("root", True, abstract_socket, insecure=real)
    assert {name: found[name].split(":")[0] for name in real} == dict.fromkeys(real, "escaped")


def test_namespace_of_the_test_is_left_alone(abstract_socket: str) -> None:
    """The abstract socket that no sandbox could reach can be reached from here."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("\0" + abstract_socket)
