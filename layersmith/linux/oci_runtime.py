"""``--isolation=oci``: sandboxes run by an installed OCI runtime, crun or runc. In: `Sandbox`. Out: a `Running`'s like.

The bundle's mounts exist in this process' private mount namespace, and the runtime runs below the spawner, in its PID
namespace: so however layersmith dies, nothing of either is left.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from layersmith.errors import SandboxError
from layersmith.linux import cgroups
from layersmith.linux.bundledir import Bundle
from layersmith.linux.sandbox import Sandbox
from layersmith.linux.spawner import Running, Spawner
from layersmith.linux.terminal import set_window_size

LONGEST_SOCKET_PATH = 108
NOT_EXECUTABLE, NOT_FOUND = 126, 127

_WRAPPER = """\
while [ "$1" != -- ]; do echo 0 >"$1/cgroup.procs" || exit 125; shift; done; shift
if [ -d /sys/fs/cgroup/unified ]; then umount -l /sys/fs/cgroup/unified; fi 2>/dev/null
exec "$@"
"""
"""In a mount namespace of its own: joins control groups, and becomes the runtime. crun refuses to start where versions 1
and 2 are mounted at once (systemd's hybrid layout), though it is to leave groups alone."""

_NOT_FOUND = re.compile(r"executable file .*not found|exec: .*: no such file or directory")
_NOT_EXECUTABLE = re.compile(
    r"exec: .*: (permission denied|exec format error|is a directory)|^open executable: |^exec .*: .*(denied|format)",
    re.IGNORECASE,
)
"""As runc (``exec: "x": …``) and crun word what became of execve(2)."""

_POLL_MILLISECONDS = 2


class OciRuntime:
    """Starts sandboxes as `Spawner` does; safe to use from many threads at once.

    ``temporary(prefix)`` makes a fresh directory, on a disk with room for a few files.
    """

    def __init__(self, spawner: Spawner, program: str, temporary: Callable[[str], Path]) -> None:
        self._spawner = spawner
        self._program = program
        self._temporary = temporary
        self._leaves_groups_alone = os.path.basename(program) == "crun"
        if not self._leaves_groups_alone:
            _sweep_groups()

    def run(self, sandbox: Sandbox, *, stdin: int, stdout: int, stderr: int) -> OciRunning:
        """Start ``sandbox``; returns once the runtime has set it up. Raises SandboxError, StepError (unknown user)."""
        with ExitStack() as stack:
            groups = None if self._leaves_groups_alone else _cgroups_path(sandbox)
            made = Bundle(sandbox, self._temporary("bundle"), stack, cgroups_path=groups)
            console = stack.enter_context(self._console(sandbox, made))
            ends = console.ends or (stdin, stdout, stderr)
            inner = self._spawner.run_program(
                self._command(sandbox, made, console), stdin=ends[0], stdout=ends[1], stderr=ends[2]
            )
            stack.push(inner)
            running = OciRunning(inner, made)
            running.start(console)
            running.keep(stack.pop_all())
            return running

    def _console(self, sandbox: Sandbox, made: Bundle) -> Console:
        if not sandbox.tty:
            return Console()
        place = made.directory / "console"
        if self._leaves_groups_alone and len(os.fsencode(place)) < LONGEST_SOCKET_PATH:
            return SocketConsole(place)
        return PairConsole(made.console_size)

    def _command(self, sandbox: Sandbox, made: Bundle, console: Console) -> tuple[str, ...]:
        place = os.fspath(made.directory)
        return (
            # The runtime finds processes by their numbers in /proc: it has to be that of the PID namespace it is in.
            *("unshare", "--mount-proc", "--propagation", "private"),
            *("sh", "-c", _WRAPPER, "sh", *sandbox.cgroups, "--"),
            *(self._program, "--root", f"{place}/state", "--log", f"{place}/log", "--log-format", "json"),
            *(("--cgroup-manager=disabled",) if self._leaves_groups_alone else ()),
            *("run", "--bundle", place, "--pid-file", f"{place}/pid", *console.options),
            f"layersmith-{made.directory.parent.name}-{made.directory.name}",
        )


class Console:
    """How the runtime's terminal comes to the caller; this one: there is none. ``ends`` replace the process' streams,
    ``options`` are for the runtime. A context manager that closes what nobody took."""

    ends: tuple[int, int, int] | None = None
    options: tuple[str, ...] = ()

    def fileno(self) -> int | None:
        """A descriptor that polls readable when `receive` would not block; None where there is nothing to wait for."""
        return None

    def receive(self) -> int | None:
        """The controlling end, now the caller's."""
        return None

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class SocketConsole(Console):
    """The runtime sends it through a socket (crun; runc only when it detaches)."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(os.fspath(path))
        self._socket.listen(1)
        self.options = ("--console-socket", os.fspath(path))

    def fileno(self) -> int | None:
        return self._socket.fileno()

    def receive(self) -> int | None:
        connection, _ = self._socket.accept()
        with connection:
            _, descriptors, _, _ = socket.recv_fds(connection, 4096, 1)
        return descriptors[0] if descriptors else None

    def close(self) -> None:
        self._socket.close()


class PairConsole(Console):
    """The runtime has one end of a terminal of ours for its streams, and passes on what goes through; its size is that of
    the beginning, for runtimes learn of another only from a terminal that controls them."""

    def __init__(self, size: tuple[int, int]) -> None:
        self._controller, terminal = pty.openpty()
        set_window_size(self._controller, *size)
        self._terminal = terminal
        self.ends = (terminal, terminal, terminal)

    def receive(self) -> int | None:
        os.close(self._terminal)
        controller, self._controller, self._terminal = self._controller, -1, -1
        return controller

    def close(self) -> None:
        for fd in (self._controller, self._terminal):
            if fd >= 0:
                os.close(fd)


class OciRunning:
    """`Running` of a container that an OCI runtime runs. ``pid`` is the container's first process."""

    def __init__(self, inner: Running, made: Bundle) -> None:
        self.pid = 0
        self.terminal: int | None = None
        self._inner = inner
        self._bundle = made
        self._status: int | None = None
        self._cleanup: ExitStack | None = None
        self._pidfd = -1

    def start(self, console: Console) -> None:
        """Wait until the runtime has made the container. Raises SandboxError."""
        poll = select.poll()
        poll.register(self._inner.fileno(), select.POLLIN)
        waiting = console.fileno()
        if waiting is not None:
            poll.register(waiting, select.POLLIN)
        else:
            self.terminal = console.receive()
        pid_file = self._bundle.directory / "pid"
        while waiting is not None or not pid_file.exists():
            ready = {fd for fd, _ in poll.poll(_POLL_MILLISECONDS)}
            if waiting is not None and waiting in ready:
                self.terminal = console.receive()
                poll.unregister(waiting)
                waiting = None
            elif self._inner.fileno() in ready:
                self.wait()
                return
        self.pid = _first_process(self._inner.pid)
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                self._pidfd = os.pidfd_open(self.pid)

    def wait(self) -> int:
        """See `Running.wait`; the runtime's own failures are told apart from the command's by its log."""
        if self._status is None:
            status = self._inner.wait()
            self._bundle.remove_stubs()
            message = _last_error(self._bundle.directory / "log")
            self._status = self.explain(message) if status and message and not self.pid else status
        return self._status

    @staticmethod
    def explain(message: str) -> int:
        """The status for a command that could not be executed, which the runtime has said on the command's standard
        error, too. Raises SandboxError for any other failure."""
        if _NOT_FOUND.search(message):
            return NOT_FOUND
        if _NOT_EXECUTABLE.search(message):
            return NOT_EXECUTABLE
        raise SandboxError(f"the OCI runtime failed: {message}")

    def kill(self, signal_number: int = signal.SIGKILL) -> None:
        """See `Running.kill`. The runtime forwards what it can; who kills it alone leaves the container running."""
        if signal_number in (signal.SIGKILL, signal.SIGSTOP) and self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal_number)
            return
        self._inner.kill(signal_number)

    def fileno(self) -> int:
        return self._inner.fileno()

    def keep(self, cleanup: ExitStack) -> None:
        """What to undo at the end."""
        self._cleanup = cleanup

    def close(self) -> None:
        """See `Running.close`."""
        if self._cleanup is not None:
            self.kill()
            with contextlib.suppress(SandboxError):
                self.wait()
            self._cleanup.close()
            self._cleanup = None
            if self._pidfd >= 0:
                os.close(self._pidfd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _first_process(runtime: int) -> int:
    """The container's PID 1, seen from here: the runtime's child, of whichever of its threads; 0 if it has ended."""
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{runtime}/task").iterdir():
            for child in (task / "children").read_text().split():
                ids = re.search(r"^NSpid:.*\t(\d+)$", Path(f"/proc/{child}/status").read_text(), re.MULTILINE)
                if ids is not None and ids[1] == "1":
                    return int(child)
    return 0


def _last_error(log: Path) -> str:
    """What a runtime's log says last at the level error; nothing if it has no such line."""
    try:
        lines = log.read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    for line in reversed(lines):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if entry.get("level") in ("error", "fatal"):
            return str(entry.get("msg", ""))
    return ""


def _cgroups_path(sandbox: Sandbox) -> str:
    """For a runtime that has to have groups: those that the sandbox is to join, else some that a sweep would know."""
    if not sandbox.cgroups:
        return f"/{cgroups.PARENT}/{cgroups.new_name()}"
    path = Path(sandbox.cgroups[0])
    return f"/{path.relative_to(_top(path))}"


def _top(group: Path) -> Path:
    """The root of the hierarchy of ``group``, from which a runtime counts."""
    return next(path for path in (group, *group.parents) if path.is_mount())


def _sweep_groups() -> None:
    """Remove what runtimes that were killed have left, in every hierarchy: they make groups in each."""
    for tree in cgroups.hierarchies():
        for parent in {tree.directory / cgroups.PARENT, _top(tree.directory) / cgroups.PARENT}:
            cgroups.sweep(parent)
            with contextlib.suppress(OSError):
                parent.rmdir()
