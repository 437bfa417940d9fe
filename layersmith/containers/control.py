"""What other processes do to a running container: signal it, stop it, freeze it for a moment. In: a `Container`."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

from layersmith.containers.container import ConflictError, Container
from layersmith.containers.options import signal_number
from layersmith.containers.status import RUNNING, Status
from layersmith.errors import SandboxError

_ROUNDS = 100


def send(container: Container, number: int) -> None:
    """Send signal ``number`` to the container's first process.

    Raises ConflictError: it does not run; SandboxError: it is another user's.
    """
    with _process(container) as pidfd:
        _send(pidfd, number)


def stop(container: Container, timeout: float | None = None) -> Status:
    """Ask it to end with its stop signal, and after ``timeout`` seconds (default: its own; -1: never) make it.

    What became of it. Nothing is done to one that does not run. Raises SandboxError: it is another user's.
    """
    config = container.config
    seconds = config.stop_timeout if timeout is None else timeout
    try:
        with _process(container) as pidfd:
            _send(pidfd, signal_number(config.stop_signal))
            if not _ended(pidfd, seconds):
                _send(pidfd, signal.SIGKILL)
    except ConflictError:
        return container.status()
    return container.wait()


def kill(container: Container) -> Status:
    """End it at once; what became of it. Nothing is done to one that does not run."""
    return stop(container, 0)


@contextlib.contextmanager
def _process(container: Container) -> Iterator[int]:
    """A pidfd of the container's first process. Whoever has its number by then, it is that process or nobody's:
    its supervisor keeps it from being reused for as long as it is recorded as running."""
    status = container.running()
    try:
        pidfd = os.pidfd_open(status.pid)
    except OSError:  # EINVAL: it ended before its number was recorded
        raise ConflictError(f"container {container.name} has just ended") from None
    try:
        if container.running().pid != status.pid:
            raise ConflictError(f"container {container.name} has just ended")
        yield pidfd
    finally:
        os.close(pidfd)


def _send(pidfd: int, number: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        pass
    except PermissionError:
        raise SandboxError(
            "the container is another user's", hint="only they, and root, can signal it"
        ) from None


def _ended(pidfd: int, seconds: float) -> bool:
    """Whether the process ends within ``seconds`` (negative: wait for it)."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(None if seconds < 0 else seconds * 1000))


def command_pid(container: Container, status: Status) -> int:
    """The container's command: its first process, or with ``--init`` that one's child. An init is layersmith's own
    program, whose memory and /proc nobody else may look into."""
    if not container.config.init:
        return status.pid
    try:
        children = Path(f"/proc/{status.pid}/task/{status.pid}/children").read_text().split()
    except OSError:
        return status.pid
    return int(children[0]) if children else status.pid


@contextlib.contextmanager
def paused(container: Container) -> Iterator[None]:
    """Stop all of the container's processes for the block, if it runs, so that its files stay as they are."""
    status = container.status()
    if status.state != RUNNING:
        yield
        return
    stopped: set[int] = set()
    try:
        namespace = os.readlink(f"/proc/{command_pid(container, status)}/ns/pid")
        for _ in range(_ROUNDS):
            found = {pid for pid in _members(namespace) if pid not in stopped}
            if not found:
                break
            for pid in found:
                _signal(pid, signal.SIGSTOP)
            stopped |= found
        yield
    except PermissionError:
        raise SandboxError(
            "the container is another user's", hint="only they, and root, can pause it"
        ) from None
    finally:
        for pid in stopped:
            _signal(pid, signal.SIGCONT)


def _members(namespace: str) -> Iterator[int]:
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{name}/ns/pid") == namespace:
                    yield int(name)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
