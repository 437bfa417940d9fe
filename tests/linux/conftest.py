"""Sandboxes for tests: run in a worker process, as root, and as an ordinary user with and without subordinate ids."""

from __future__ import annotations

import functools
import json
import os
import pickle
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

WORKER = Path(__file__).with_name("sandbox_worker.py")
PROJECT = Path(__file__).parents[2]
NOBODY = 65534

Result = dict[str, Any]
Boxes = Callable[..., list[Result]]
Box = Callable[..., Result]


def user_with_ranges() -> int | None:
    """An ordinary user who has ranges in /etc/subuid; the caller, if not root."""
    if os.geteuid():
        return os.geteuid()
    try:
        names = [line.split(":")[0] for line in Path("/etc/subuid").read_text().splitlines()]
    except OSError:
        return None
    for name in names:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid:
            return entry.pw_uid
    return None


def command(mode: str, argv: list[str]) -> dict[str, Any]:
    """Arguments for subprocess to run Python with ``argv`` as the user that ``mode`` (root, rootless, single) means."""
    environment = {**os.environ, "PYTHONPATH": os.fspath(PROJECT), "TMPDIR": "/tmp"}
    options: dict[str, Any] = {"env": environment, "cwd": "/"}
    if mode == "root" and os.geteuid():
        pytest.skip("needs root: real mounts, device nodes and owners")
    if mode == "rootless":
        uid = user_with_ranges()
        if uid is None or shutil.which("newuidmap") is None:
            pytest.skip("needs a user with ranges in /etc/subuid, and newuidmap")
        options |= {"user": uid, "group": uid, "extra_groups": []} if os.geteuid() == 0 else {}
    if mode == "single":
        if os.geteuid():
            pytest.skip("needs root to become a user without ranges")
        options |= {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    return options | {"args": [interpreter(options), *argv]}


def interpreter(options: dict[str, Any]) -> str:
    """A Python that the user can execute, with this package on its path: not one below root's home, say."""
    for candidate in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        try:
            check = "import sys, layersmith.linux.spawner; assert sys.version_info >= (3, 11)"
            if subprocess.run([candidate, "-c", check], capture_output=True, **options).returncode == 0:
                return candidate
        except OSError:
            continue
    pytest.skip("the user who is to be tested can't execute any Python 3.11 with this package")


def run_boxes(mode: str, *requests: dict[str, Any]) -> list[Result]:
    """The worker's answers to ``requests``, one each. ``chroot`` is root in a chroot."""
    if shutil.which("busybox") is None:
        pytest.skip("needs a static busybox")
    chroot = tempfile.mkdtemp(prefix="ls-chroot-")
    try:
        options = command("root" if mode == "chroot" else mode, [os.fspath(WORKER), mode, chroot])
        done = subprocess.run(input=pickle.dumps(list(requests)), capture_output=True, timeout=120, **options)
    finally:
        Path(chroot).rmdir()  # empty but for mounts that only the worker saw; never a recursive removal
    assert done.returncode == 0, done.stderr.decode()
    return [json.loads(line) for line in done.stdout.decode().splitlines()]


@contextmanager
def running_box(mode: str, script: str, **request: Any) -> Iterator[tuple[subprocess.Popen[bytes], Result]]:
    """A worker whose sandbox has written its first line: the worker's process, and what it announced."""
    options = command(mode, [os.fspath(WORKER)])
    with subprocess.Popen(stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options) as worker:
        try:
            assert worker.stdin is not None
            assert worker.stdout is not None
            pickle.dump([{"script": script, "announce": True, **request}], worker.stdin)
            worker.stdin.close()
            announced = json.loads(worker.stdout.readline())
            yield worker, announced
        finally:
            worker.kill()
    shutil.rmtree(Path(announced["base"]).parent, ignore_errors=True)


@pytest.fixture(params=["root", "rootless", "single"])
def any_running(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """`running_box` in each of the ways to be isolated."""
    return functools.partial(running_box, request.param)


@pytest.fixture
def linux_command() -> Callable[..., dict[str, Any]]:
    """See `command`."""
    return command


@pytest.fixture
def boxes() -> Boxes:
    """``boxes(mode, request, …)``: see `run_boxes`."""
    return run_boxes


@pytest.fixture
def box() -> Box:
    """``box(script, **request)``: one sandbox as root; its output without the last line end in ``output``."""

    def run(script: str = ":", **request: Any) -> Result:
        return run_boxes("root", {"script": script, **request})[0]

    return run


@pytest.fixture(params=["root", "rootless", "single"])
def any_box(request: pytest.FixtureRequest) -> Box:
    """As `box`, in each of the ways to be isolated."""

    def run(script: str = ":", **wanted: Any) -> Result:
        return run_boxes(request.param, {"script": script, **wanted})[0]

    run.mode = request.param  # type: ignore[attr-defined]
    return run
