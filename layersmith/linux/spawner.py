"""The spawner: a small single-threaded process that forks every sandbox. In: `Sandbox`. Out: `Running`.

Forking a threaded Python is unsafe and starting a fresh one slow, so one is forked before any thread exists. It, and
all it ever started, dies with its parent however that dies: by PR_SET_PDEATHSIG, and since it is PID 1 of a PID
namespace around all sandboxes, by the kernel's own hand.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import threading
from pathlib import Path
from types import TracebackType

from layersmith.errors import SandboxError
from layersmith.linux import libc
from layersmith.linux.running import DIED, Running
from layersmith.linux.sandbox import Sandbox
from layersmith.oci.process import Process

__all__ = ["Running", "Spawner"]


class Spawner:
    """Starts sandboxes; safe to use from many threads at once."""

    def __init__(self, requests: socket.socket, pid: int, pidfd: int) -> None:
        self._requests = requests
        self._pid = pid
        self._pidfd = pidfd
        self._lock = threading.Lock()

    @classmethod
    def start(cls, *, contained: bool = True) -> Spawner:
        """Fork the spawner. After `userns.enter` and before any thread.

        ``contained``: in a PID namespace of its own, so that the kernel itself ends everything; off only for
        `enter_running` of another process' sandbox, which lies outside of that namespace.
        """
        libc.require_known_machine()
        if threading.active_count() > 1:
            raise RuntimeError("the spawner must be started before any thread")
        mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        pid, pidfd = libc.clone(libc.CLONE_NEWPID if contained else 0)
        if pid == 0:
            try:
                mine.close()
                from layersmith.linux.server import serve_and_exit

                serve_and_exit(its, parent)
            finally:
                os._exit(1)  # never into the caller's code
        its.close()
        return cls(mine, pid, pidfd)

    def run(self, sandbox: Sandbox, *, stdin: int, stdout: int, stderr: int) -> Running:
        """Start ``sandbox``; returns once it is set up. The descriptors stay the caller's (close them after this).

        With ``sandbox.tty`` they are not used. Raises SandboxError (operation, path, errno), StepError (unknown user).
        """
        return self._request(("run", sandbox, sandbox.process), (stdin, stdout, stderr), sandbox.upper)

    def enter_running(
        self, pid: int, sandbox: Sandbox, process: Process, *, stdin: int, stdout: int, stderr: int
    ) -> Running:
        """Start ``process`` in the namespaces of the running sandbox whose first process is ``pid`` (``exec``).

        ``sandbox`` gives capabilities, seccomp, limits, ``tty`` and control groups. Raises SandboxError, StepError.
        """
        try:
            target = os.pidfd_open(_first_child(pid) if sandbox.init else pid)
        except OSError as error:
            raise SandboxError(f"enter the container of process {pid}: {error.strerror}") from error
        try:
            return self._request(("enter", sandbox, process), (stdin, stdout, stderr, target), None)
        finally:
            os.close(target)

    def run_program(self, args: tuple[str, ...], *, stdin: int, stdout: int, stderr: int) -> Running:
        """Start a program of the host's, in no sandbox at all, that is to die with everything else (a network helper).

        The same `Running`: 127 if there is no such program.
        """
        return self._request(
            ("program", Sandbox("/", Process(args)), Process(args)), (stdin, stdout, stderr), None
        )

    def close(self) -> None:
        """End the spawner and all that it runs. Idempotent."""
        with self._lock:
            self._requests.close()
            if self._pidfd >= 0:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
                os.waitpid(self._pid, 0)
                os.close(self._pidfd)
                self._pidfd = -1

    def __enter__(self) -> Spawner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _request(
        self, request: tuple[str, Sandbox, Process], descriptors: tuple[int, ...], root: str | None
    ) -> Running:
        """The request travels in a memfd: it may be larger than a packet, and hold secrets."""
        payload = os.memfd_create("layersmith-sandbox")
        replies, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            os.write(payload, pickle.dumps(request, pickle.HIGHEST_PROTOCOL))
            with self._lock:
                socket.send_fds(self._requests, [b"."], [payload, its.fileno(), *descriptors])
        except OSError as error:
            replies.close()
            raise SandboxError(DIED) from error
        finally:
            its.close()
            os.close(payload)
        return Running(replies, root).started()


def _first_child(pid: int) -> int:
    """The command below an init; its memory, unlike the init's, is the container's own. ``pid`` if it has none."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return pid
    return int(children[0]) if children else pid
