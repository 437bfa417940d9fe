"""Runs sandboxes for the tests, in a process of its own: isolation is entered once and for all, before any thread.

stdin: a pickled list of requests (dicts); stdout: a JSON line for each. A request has ``script`` (for sh -c) or
``args``, ``files`` and ``upper_files`` (path -> bytes, in the lower and the upper directory), ``directories``,
``prepare`` (Python source run on the host with ``base`` in scope; returns more of the request), ``plain`` (no overlay),
``signal`` (sent after the first line of output), ``announce`` (after that line print pid, worker's pid and sandbox),
and anything that `Sandbox` takes.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from layersmith.dataclass import asdict
from layersmith.errors import LayersmithError
from layersmith.linux import libc, terminal, userns
from layersmith.linux.overlay import Overlay
from layersmith.linux.sandbox import Sandbox
from layersmith.linux.spawner import Spawner
from layersmith.oci.process import Process

ENV = (("PATH", "/bin"),)


def main() -> None:
    requests = pickle.load(sys.stdin.buffer)
    if sys.argv[1:2] == ["chroot"]:
        enter_chroot(Path(sys.argv[2]))
    isolation = userns.enter()
    # Removed by a child that is still root in the user namespace: others' files lie in there.
    with tempfile.TemporaryDirectory(prefix="ls-", ignore_cleanup_errors=True) as scratch:
        with Spawner.start() as spawner:
            for number, request in enumerate(requests):
                base = Path(scratch) / str(number)
                try:
                    reply = answer(spawner, base, dict(request), userxattr=isolation.userxattr)
                except LayersmithError as error:
                    reply = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
                reply["isolation"] = asdict(isolation)
                reply["upper"] = listing(base / "upper")
                print(json.dumps(reply), flush=True)


def answer(spawner: Spawner, base: Path, request: dict[str, Any], *, userxattr: bool) -> dict[str, Any]:
    make_tree(base, request)
    exec("def prepare(base):\n    " + request.pop("prepare", "pass").replace("\n", "\n    "), space := {})
    request |= space["prepare"](base) or {}
    lowers = (os.fspath(base / "lower"), *request.pop("lowers", ()))
    overlay = Overlay(lowers, os.fspath(base / "upper"), os.fspath(base / "work"), userxattr=userxattr)
    rootfs = os.fspath(base / "lower") if request.pop("plain", False) else overlay
    exec(
        "def prepare(base):\n    " + request.pop("prepare", "return {}").replace("\n", "\n    "), space := {}
    )
    request |= space["prepare"](base) or {}
    script = request.pop("script", ":")
    args = tuple(request.pop("args", ())) or ("/bin/sh", "-c", script)
    process = Process(args, request.pop("env", ENV), request.pop("cwd", "/"), request.pop("user", ""))
    after = request.pop("signal", None)
    announce = request.pop("announce", False)
    sandbox = Sandbox(rootfs, process, **request)
    reader, writer = os.pipe()
    stdin = os.open(os.devnull, os.O_RDONLY)
    try:
        running = spawner.run(sandbox, stdin=stdin, stdout=writer, stderr=writer)
    finally:
        os.close(writer)
        os.close(stdin)
    with running, os.fdopen(reader, "rb") as output:
        if running.terminal is not None:
            terminal.set_window_size(running.terminal, 24, 80)
            text = drain(running.terminal)
        else:
            first = output.readline() if after or announce else b""
            if announce:
                data = base64.b64encode(pickle.dumps(sandbox)).decode()
                said = {"pid": running.pid, "worker": os.getpid(), "sandbox": data, "base": os.fspath(base)}
                print(json.dumps(said), flush=True)
            if after:
                running.kill(after)
            text = first + output.read()
        return {"status": running.wait(), "output": text.decode(errors="replace"), "pid": running.pid}


def make_tree(base: Path, request: dict[str, Any]) -> None:
    for name in ("lower/bin", "upper", "work"):
        (base / name).mkdir(parents=True)
    base.chmod(0o755)
    busybox = base / "lower/bin/busybox"
    shutil.copy(shutil.which("busybox") or "", busybox)
    for name in subprocess.run(
        [busybox, "--list"], capture_output=True, text=True, check=True
    ).stdout.split():
        if name != "busybox":
            (base / "lower/bin" / name).symlink_to("busybox")
    for name in request.pop("directories", ("proc", "sys", "dev", "etc", "tmp")):
        (base / "lower" / name).mkdir()
    for where, files in (("lower", request.pop("files", {})), ("upper", request.pop("upper_files", {}))):
        for name, data in files.items():
            path = base / where / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    os.utime(base / "lower", ns=(10**9, 10**9))
    for path in (base / "lower").rglob("*"):
        if path.is_dir() and not path.is_symlink():
            os.utime(path, ns=(10**9, 10**9))


def enter_chroot(top: Path) -> None:
    """Live in a chroot: ``top`` that is a mount, but not the root of the mount namespace."""
    libc.unshare(libc.CLONE_NEWNS)
    libc.mount(None, "/", None, libc.MS_REC | libc.MS_PRIVATE)
    libc.mount("tmpfs", os.fspath(top), "tmpfs", 0)
    for path in Path("/").iterdir():
        if path.is_symlink():
            (top / path.name).symlink_to(path.readlink())
        elif path.is_dir():
            (top / path.name).mkdir()
            libc.mount(os.fspath(path), os.fspath(top / path.name), None, libc.MS_BIND | libc.MS_REC)
    os.chroot(top)
    os.chdir("/")


def drain(controller: int) -> bytes:
    """All that is written to a terminal, until its last user has closed it (then reads fail with EIO)."""
    parts = []
    try:
        while part := os.read(controller, 4096):
            parts.append(part)
    except OSError:
        pass
    os.close(controller)
    return b"".join(parts)


def listing(upper: Path) -> dict[str, list[int]]:
    """path -> (mode, uid, gid, mtime in ns) of everything in an upper directory."""
    if not upper.is_dir():
        return {}
    found = {}
    for path in (upper, *upper.rglob("*")):
        status = path.lstat()
        name = path.relative_to(upper).as_posix()
        found[name] = [status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns]
    return found


if __name__ == "__main__":
    main()
