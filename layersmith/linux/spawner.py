"""The spawner: a small single-threaded process that forks every sandbox. In: `Sandbox`. Out: `Running`.

Forking a threaded Python is unsafe and starting a fresh one slow, so one is forked before any thread exists. It, and
all it ever started, dies with its parent however that dies: by PR_SET_PDEATHSIG, and since it is PID 1 of a PID
namespace around all sandboxes, by the kernel's own hand.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import marshal
import os
import pickle
import select
import signal
import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Never

from layersmith import errors
from layersmith.errors import SandboxError
from layersmith.linux import libc
from layersmith.linux.sandbox import Sandbox
from layersmith.linux.stubs import Attributes, Stub, remove_stubs
from layersmith.oci.process import Process

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
        if threading.active_count() > 1:
            raise RuntimeError("the spawner must be started before any thread")
        mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        pid, pidfd = libc.clone(libc.CLONE_NEWPID if contained else 0)
        if pid == 0:
            mine.close()
            _serve_and_exit(its, parent)
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


def _pid_of(pidfd: int) -> int:
    """The process id behind ``pidfd`` in this process' PID namespace (proc_pid_fdinfo(5))."""
    for line in Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == "Pid":
            return int(value)
    return 0


def _first_child(pid: int) -> int:
    """The command below an init; its memory, unlike the init's, is the container's own. ``pid`` if it has none."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return pid
    return int(children[0]) if children else pid


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
    if number == errno.ENOSYS:
        return "the sandbox needs Linux 5.12 or newer"
    if number == errno.ENOSPC:
        return "a limit of the kernel is reached: /proc/sys/user/max_*_namespaces or /proc/sys/fs/mount-max"
    return ""


def _stub(values: tuple[object, ...]) -> Stub:
    path, is_directory, before, after, copied_up = values
    copies = tuple((p, t, Attributes(*a)) for p, t, a in copied_up)  # type: ignore[attr-defined]
    return Stub(path, is_directory, before, after, copies)  # type: ignore[arg-type]


# In the spawner


def _serve_and_exit(requests: socket.socket, parent: int) -> Never:
    """The spawner's life. Never returns into the caller's code, whatever happens."""
    status = 1
    try:
        libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() in (0, parent):  # 0: in its own PID namespace; else the parent died before prctl
            _Server(requests).serve()
            status = 0
    finally:
        os._exit(status)


class _Server:
    """The loop: takes requests, clones sandboxes, and passes on how they ended."""

    def __init__(self, requests: socket.socket) -> None:
        from layersmith.linux import launch, seccomp

        self.requests = requests
        self.launch = launch
        self.seccomp = seccomp
        self.machine = launch.Machine.inspect()
        self.poll = select.poll()
        self.children: dict[int, tuple[int, socket.socket]] = {}
        self.programs: dict[frozenset[str], bytes] = {}

    def serve(self) -> None:
        """Until the parent closes its end. Ctrl-C is for the parent to handle: it knows what to stop."""
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
        libc.prctl(libc.PR_SET_DUMPABLE, 0)
        self.program(Sandbox("/", Process(())))
        gc.disable()
        gc.freeze()
        self.poll.register(self.requests, select.POLLIN)
        while True:
            for descriptor, _ in self.poll.poll():
                if descriptor != self.requests.fileno():
                    self.ended(descriptor)
                elif not self.serve_one():
                    return

    def serve_one(self) -> bool:
        data, descriptors, _, _ = socket.recv_fds(self.requests, 16, 8)
        if not data:
            return False
        payload, channel, *streams = descriptors
        with os.fdopen(payload, "rb") as file:
            file.seek(0)
            kind, sandbox, process = pickle.load(file)
        replies = socket.socket(fileno=channel)
        try:
            self.start(kind, sandbox, process, replies, streams)
        except OSError as error:
            doing = "clone a process into new namespaces"
            self.tell(replies, "failed", doing, "", error.errno or 0, error.strerror or "")
            self.tell(replies, "exited", 1)
            replies.close()
        finally:
            for descriptor in streams:
                os.close(descriptor)
        return True

    def start(
        self, kind: str, sandbox: Sandbox, process: Process, replies: socket.socket, streams: list[int]
    ) -> None:
        may = self.launch.privileges(sandbox, self.machine, self.program(sandbox))
        flags = self.launch.clone_flags(sandbox) if kind == "run" else 0
        pid, pidfd = libc.clone(flags)
        if pid == 0:
            ends = self.launch.Streams(streams[0], streams[1], streams[2], channel=replies.detach())
            launched = self.launch.Launch(sandbox, process, self.machine, may, ends)
            if kind == "run":
                launched.launch()
            if kind == "program":
                launched.run_program()
            launched.enter(streams[3])
        self.children[pidfd] = pid, replies
        self.poll.register(pidfd, select.POLLIN)
        self.tell(replies, "cloned", descriptors=(pidfd,))

    def program(self, sandbox: Sandbox) -> bytes:
        """The seccomp filter for a sandbox's capabilities, assembled once."""
        if sandbox.insecure or not sandbox.seccomp:
            return b""
        if sandbox.capabilities not in self.programs:
            self.programs[sandbox.capabilities] = self.seccomp.program(sandbox.capabilities)
        return self.programs[sandbox.capabilities]

    def ended(self, pidfd: int) -> None:
        from layersmith.linux.pid1 import shell_status

        pid, replies = self.children.pop(pidfd)
        self.poll.unregister(pidfd)
        _, status = os.waitpid(pid, 0)
        self.tell(replies, "exited", shell_status(status))
        os.close(pidfd)
        replies.close()

    def tell(self, replies: socket.socket, *message: str | int, descriptors: tuple[int, ...] = ()) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the caller has lost interest
            socket.send_fds(replies, [marshal.dumps((message, ()))], descriptors)
