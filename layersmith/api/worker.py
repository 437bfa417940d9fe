"""Commands in a process of their own, seen from Python. In: a command's words. Out: events, and its outcome.

`layersmith.cli.worker` is the other side, and says why there is one.
"""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from layersmith.errors import Cancelled, LayersmithError, UsageError
from layersmith.progress import Event

_LENGTH = 8
_BOOTSTRAP = (
    "import sys; sys.path.append(sys.argv.pop(1)); from layersmith.cli.worker import main; sys.exit(main())"
)
GRACE_SECONDS = 5.0
"""From a request to stop to an end by force."""


class Worker:
    """One command. Iterate for its events; then, or by `wait`, its failure is raised here as it was there.

    A context manager: leaving it, or the end of this process however it dies, ends the command.
    """

    def __init__(
        self,
        command: str,
        words: Sequence[str],
        *,
        root: Path | None = None,
        stdin: int | IO[bytes] | None = subprocess.DEVNULL,
        stdout: int | None = subprocess.DEVNULL,
        stderr: int | None = None,
        secrets: Sequence[int] = (),
    ) -> None:
        if not sys.executable:
            raise UsageError("this Python does not know its own executable", hint="set sys.executable")
        self._command = command
        where = [] if root is None else [f"--root={root}"]
        with ExitStack() as stack:
            mine, its = socket.socketpair()
            stack.callback(its.close)
            alive, self._alive = os.pipe()
            stack.callback(os.close, alive)
            package = os.fspath(Path(__file__).parents[2])
            ends = (str(its.fileno()), str(alive))
            self.process = subprocess.Popen(
                # -P: the current directory may hold anything, a context for example, and is no place to import from.
                (sys.executable, "-P", "-c", _BOOTSTRAP, package, *ends, command, *where, *words),
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                pass_fds=(its.fileno(), alive, *secrets),
            )
        self._channel = mine.makefile("rb")
        mine.close()
        self._failure: LayersmithError | None = None

    def __iter__(self) -> Iterator[Event]:
        """The events, until the command ends. Raises what it failed with."""
        while message := self._receive():
            kind, *rest = message
            if kind == "event":
                yield rest[0]
            else:
                self._failure = _made(*rest)
        self.ended()

    def ended(self) -> None:
        """Wait for the end, and raise what the command failed with."""
        status = self.process.wait()
        self._close()
        if self._failure is not None:
            raise self._failure
        if status == Cancelled.exit_code or status < 0:
            raise Cancelled("the command was stopped")
        if status and self._command != "run":
            raise LayersmithError(f"layersmith {self._command} ended with status {status}")

    def wait(self) -> None:
        """Let the command go on to its end, its events unseen. Raises what it failed with."""
        for _ in self:
            pass

    def stop(self) -> None:
        """End the command, if it has not ended yet: its steps are killed, and what it had not finished is swept."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _close(self) -> None:
        self._channel.close()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        if self._alive >= 0:
            os.close(self._alive)
            self._alive = -1

    def _receive(self) -> Any:
        """The next message; None at the end. It comes from a process of ours, so unpickling it is safe."""
        if self._channel.closed:
            return None
        head = self._channel.read(_LENGTH)
        if len(head) < _LENGTH:
            return None
        return pickle.loads(self._channel.read(int.from_bytes(head, "little")))


def _made(kind: type[LayersmithError], args: tuple[Any, ...], state: dict[str, Any]) -> LayersmithError:
    """An error as it was there; its own ``__init__`` may want more than ``args``."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def output_of(command: str, words: Sequence[str], *, root: Path | None = None) -> str:
    """What ``command`` prints. Raises what it fails with."""
    with Worker(command, words, root=root, stdout=subprocess.PIPE) as worker:
        assert worker.process.stdout is not None
        text = worker.process.stdout.read().decode("utf-8", "surrogateescape")
        worker.wait()
    return text
