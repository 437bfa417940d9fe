"""A process in a sandbox, as its starter sees it. In: the reports of the spawner and the sandbox. Out: `Running`."""

from __future__ import annotations

import contextlib
import errno
import marshal
import os
import signal
import socket
import threading
from pathlib import Path
from types import TracebackType

from layersmith import errors
from layersmith.errors import SandboxError
from layersmith.linux.stubs import Attributes, Stub, remove_stubs

MOST_MESSAGE = 1 << 18
DIED = "the process that starts commands (the spawner) has died"


class Running:
    """A started process. Made by `Spawner`; a context manager that kills what is left at its end.

    ``pid``: its first process' id in the caller's PID namespace. ``terminal``: the controlling end of its terminal
    (the caller closes it), None without ``tty``.
    """

    def __init__(self, replies: socket.socket, root: str | None) -> None:
        self.pid = 0
        self.terminal: int | None = None
        self._replies = replies
        self._root = root
        self._pidfd = -1
        self._status: int | None = None
        self._stubs: tuple[Stub, ...] = ()
        self._failure: errors.LayersmithError | None = None
        self._waiting = threading.Lock()
        self._signalling = threading.Lock()

    def wait(self) -> int:
        """Its status as a shell gives it (128+n for signal n, 126 not executable, 127 not found).

        Blocks; may be called again and by several threads. Afterwards the mount points that were made for it are gone
        from the upper directory. Raises SandboxError where setting up failed after `Spawner.run` had returned.
        """
        with self._waiting:
            while self._status is None:
                self._receive()
            if self._failure:
                raise self._failure
            return self._status

    def kill(self, signal_number: int = signal.SIGKILL) -> None:
        """Send a signal: SIGKILL and SIGSTOP to everything in the sandbox, others to its main process. Never fails."""
        with self._signalling:
            if self._pidfd >= 0:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._pidfd, signal_number)

    def fileno(self) -> int:
        """A descriptor that polls readable once the process has ended."""
        return self._pidfd

    def close(self) -> None:
        """Kill it if it still runs, wait for it, and free its descriptors. Idempotent; the end of a ``with`` block."""
        self.kill()
        with self._waiting:
            while self._status is None:
                self._receive()
            self._replies.close()
        with self._signalling:
            if self._pidfd >= 0:
                os.close(self._pidfd)
                self._pidfd = -1

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def started(self) -> Running:
        """Wait until it is set up; for `Spawner`. Raises what made that fail."""
        try:
            # Told by the sandbox and by the spawner: whichever comes first.
            awaited = {"ready", "cloned"}
            with self._waiting:
                while awaited and self._status is None and not self._failure:
                    awaited.discard(self._receive())
            if self._status is not None or self._failure:
                self.wait()
                raise SandboxError(
                    "the sandbox ended while it was set up", hint="was it killed, or memory short?"
                )
        except BaseException:
            if self.terminal is not None:
                os.close(self.terminal)
            self.close()
            raise
        return self

    def _receive(self) -> str:
        """Take in one report; returns its kind."""
        data, descriptors, _, _ = socket.recv_fds(self._replies, MOST_MESSAGE, 1)
        if not data:
            self._status = 128 + signal.SIGKILL
            self._failure = SandboxError(DIED)
            return "exited"
        (kind, *rest), stubs = marshal.loads(data)
        if stubs:
            self._stubs = tuple(_stub(values) for values in stubs)
        if kind == "cloned":
            self._pidfd = descriptors[0]
            self.pid = _pid_of(self._pidfd)
        elif kind == "terminal":
            self.terminal = descriptors[0]
        elif kind == "failed":
            self._failure = _failure(*rest)
        elif kind == "refused":
            name, message, hint = rest
            self._failure = getattr(errors, name, SandboxError)(message, hint=hint)
        elif kind == "exited":
            if self._root and self._stubs:
                remove_stubs(self._root, self._stubs)
            self._status = rest[0]
        return str(kind)


def _pid_of(pidfd: int) -> int:
    """The process id behind ``pidfd`` in this process' PID namespace (proc_pid_fdinfo(5))."""
    for line in Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == "Pid":
            return int(value)
    return 0


def _failure(doing: str, path: str, number: int, text: str) -> SandboxError:
    name = f" ({errno.errorcode[number]})" if number in errno.errorcode else ""
    at = f"{path}: " if path and path not in doing else ""
    return SandboxError(f"{doing}: {at}{text}{name}", hint=_hint(doing, number))


def _hint(doing: str, number: int) -> str:
    if doing.startswith("enter the working directory"):
        return "WORKDIR makes it; or give another directory"
    if doing.startswith("set the resource limit") and number == errno.EPERM:
        return "only CAP_SYS_RESOURCE may raise a hard limit"
    if number in (errno.EPERM, errno.EACCES) and doing.startswith(("mount", "bind", "pivot_root", "make")):
        return "something around layersmith (a container, AppArmor, SELinux) forbids mounts"
    if number == errno.EROFS and doing.startswith("mount"):
        return (
            "overlayfs turns read-only where it can't write: is the disk of the store full? layersmith prune"
        )
    if number == errno.ENOSYS:
        return "the sandbox needs Linux 5.12 or newer"
    if number == errno.ENOSPC:
        return "a limit of the kernel is reached: /proc/sys/user/max_*_namespaces or /proc/sys/fs/mount-max"
    return ""


def _stub(values: tuple[object, ...]) -> Stub:
    path, is_directory, before, after, copied_up = values
    copies = tuple((p, t, Attributes(*a)) for p, t, a in copied_up)  # type: ignore[attr-defined]
    return Stub(path, is_directory, before, after, copies)  # type: ignore[arg-type]
