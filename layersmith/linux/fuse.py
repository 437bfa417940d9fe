"""fuse-overlayfs, where the kernel mounts no overlay: in a container on one, on NFS, in a user namespace before 5.11.

In: an `Overlay`. Out: the same, as the kernel takes it, or ``mounted`` by the program for as long as it is needed; then
its upper directory as overlayfs would have left it. https://github.com/containers/fuse-overlayfs.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from layersmith.dataclass import replace
from layersmith.errors import SandboxError
from layersmith.linux import libc
from layersmith.linux.overlay import Overlay, escaped, open_overlay
from layersmith.linux.stubs import OPAQUE_MARKS

if TYPE_CHECKING:
    import subprocess

PROGRAM = "fuse-overlayfs"
DEVICE = "/dev/fuse"
_START_SECONDS = 10.0
_WHITEOUT = ".wh."
_OWN_XATTRS = "user.fuseoverlayfs."


class Overlays:
    """Makes overlays mountable; asks the kernel once, with the first that is to be written to."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._by_program: bool | None = None

    @contextlib.contextmanager
    def mountable(self, overlay: Overlay, directory: Path) -> Iterator[Overlay]:
        """``overlay`` itself, or with ``mounted`` below ``directory`` (made if needed) while the block lasts.

        Raises:
            SandboxError: neither the kernel nor fuse-overlayfs can mount it; the hint says what would help.
        """
        with self._mutex:
            if self._by_program is None:
                self._by_program = needs_program(overlay)
        if not self._by_program or not overlay.upper or not overlay.lowers:
            yield overlay
            return
        directory.mkdir(exist_ok=True)
        with _mounted(overlay, directory):
            yield replace(overlay, mounted=str(directory))
        settle(overlay.upper, "user" if overlay.userxattr else "trusted")


def needs_program(overlay: Overlay) -> bool:
    """Whether the kernel refuses to mount ``overlay``, and fuse-overlayfs is there to do it.

    Raises:
        SandboxError: the kernel refuses, and the program or its device is missing.
    """
    if not overlay.upper or not overlay.lowers:
        return False
    try:
        # Not volatile: such a mount leaves a mark in the work directory that forbids the next one.
        os.close(open_overlay(replace(overlay, volatile=False)))
    except SandboxError as error:
        import shutil

        if shutil.which(PROGRAM) is None:
            raise SandboxError(
                error.message, hint=f"{error.hint}; or install {PROGRAM}".lstrip("; ")
            ) from None
        if not os.access(DEVICE, os.R_OK | os.W_OK):
            raise SandboxError(
                error.message, hint=f"{error.hint}; {PROGRAM} would do, but needs {DEVICE}".lstrip("; ")
            ) from None
        return True
    return False


@contextlib.contextmanager
def _mounted(overlay: Overlay, directory: Path) -> Iterator[None]:
    import subprocess

    assert overlay.upper is not None and overlay.work is not None
    lowers = ":".join(escaped(lower) for lower in overlay.lowers)
    options = f"lowerdir={lowers},upperdir={escaped(overlay.upper)},workdir={escaped(overlay.work)}"
    program = subprocess.Popen(
        [PROGRAM, "-f", "-o", options, os.fspath(directory)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        _await(program, directory)
        yield
    finally:
        with contextlib.suppress(OSError):
            libc.umount(os.fspath(directory), detach=True)
        try:
            program.wait(timeout=_START_SECONDS)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()
        if program.stderr:
            program.stderr.close()


def _await(program: subprocess.Popen[bytes], directory: Path) -> None:
    outside = os.stat(directory.parent).st_dev
    deadline = time.monotonic() + _START_SECONDS
    while os.stat(directory).st_dev == outside:
        if program.poll() is not None or time.monotonic() > deadline:
            program.kill()
            said = program.stderr.read(4096).decode("utf-8", "replace").strip() if program.stderr else ""
            raise SandboxError(f"{PROGRAM} could not mount {directory}: {said or 'it does not answer'}")
        time.sleep(0.002)


def settle(upper: str, namespace: str) -> None:
    """Turn fuse-overlayfs' own marks in ``upper`` into overlayfs': ``namespace``.overlay.opaque, and 0:0 devices.

    Its whiteouts are such devices already where it may make them. Symlinks are not followed.

    Raises:
        SandboxError: the file system can't hold whiteouts.
    """
    for _, _, files, at in os.fwalk(upper, follow_symlinks=False):
        if OPAQUE_MARKS[0] in files:
            os.setxattr(at, f"{namespace}.overlay.opaque", b"y")
        for name in files:
            if name in OPAQUE_MARKS:
                os.unlink(name, dir_fd=at)
            elif name.startswith(_WHITEOUT) and stat.S_ISREG(
                os.stat(name, dir_fd=at, follow_symlinks=False).st_mode
            ):
                _whiteout(name, at)
        for name in (".", *files):
            _clean(f"/proc/self/fd/{at}/{name}")


def _clean(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):  # a mark of before
        for name in os.listxattr(path, follow_symlinks=False):
            if name.startswith(_OWN_XATTRS):
                os.removexattr(path, name, follow_symlinks=False)


def _whiteout(name: str, directory: int) -> None:
    try:
        os.mknod(name.removeprefix(_WHITEOUT), stat.S_IFCHR, 0, dir_fd=directory)
    except OSError as error:
        raise SandboxError(
            f"the store's file system can't hold whiteouts: {error.strerror}",
            hint="put the store on another one with --root: a disk's, or a volume's if this is a container",
        ) from error
    os.unlink(name, dir_fd=directory)
