"""A container's standard streams. In: descriptors of the caller, a log. Out: the same bytes on the other side.

The container never gets the caller's own descriptors: through a terminal it could type into the caller's shell (TIOCSTI),
through /proc/self/fd it could reopen a file for more than it was given. So it gets pipes, or a terminal of its own,
and threads pass on what goes through.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Callable

from layersmith.dataclass import dataclass
from layersmith.errors import StoreError
from layersmith.store.files import write_all
from layersmith.store.log import STDERR, STDOUT, LogWriter

_BLOCK = 1 << 18


@dataclass(frozen=True, slots=True)
class Caller:
    """The descriptors to connect a container to; None where there is nobody. ``open_stdin``: without a ``stdin``, one
    that never ends and never says anything, instead of /dev/null."""

    stdin: int | None = None
    stdout: int | None = None
    stderr: int | None = None
    open_stdin: bool = False


class Streams:
    """The container's ends (`stdin`, `stdout`, `stderr`), to be given to it, and the threads that serve the other ends.

    Give the ends out between making this and `start`; then call `finish` when the container has ended, and `close`.
    """

    def __init__(self, caller: Caller, log: LogWriter | None, *, tty: bool) -> None:
        self._caller = caller
        self._log = log
        self._tty = tty
        self._ours: dict[int, int] = {}
        self._theirs: dict[int, int] = {}
        self._outputs: list[threading.Thread] = []
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        if self._tty or (self._caller.stdin is None and not self._caller.open_stdin):
            self._theirs[0] = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        else:
            self._theirs[0], self._ours[0] = _pipe()
        for stream in (STDOUT, STDERR):
            if self._tty:
                self._theirs[stream] = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            else:
                self._ours[stream], self._theirs[stream] = _pipe()

    @property
    def stdin(self) -> int:
        return self._theirs[0]

    @property
    def stdout(self) -> int:
        return self._theirs[STDOUT]

    @property
    def stderr(self) -> int:
        return self._theirs[STDERR]

    def start(self, terminal: int | None = None) -> None:
        """The container has its ends: close them here, and serve ours. ``terminal``: the caller's end of its terminal."""
        while self._theirs:
            os.close(self._theirs.popitem()[1])
        if terminal is not None:
            self._ours[STDOUT] = os.dup(terminal)
            self._copy_out(STDOUT, self._caller.stdout)
            if self._caller.stdin is not None:
                self._copy_in(self._caller.stdin, os.dup(terminal))
            return
        self._copy_out(STDOUT, self._caller.stdout)
        self._copy_out(STDERR, self._caller.stderr)
        if self._caller.stdin is not None:
            self._copy_in(self._caller.stdin, self._ours.pop(0))

    def _copy_out(self, stream: int, target: int | None) -> None:
        source = self._ours.pop(stream)
        log = self._log
        sinks: list[Callable[[bytes], None]] = []
        if log is not None:
            sinks.append(lambda data: log.write(stream, data))
        if target is not None:
            sinks.append(lambda data: write_all(target, data))
        thread = threading.Thread(target=_pump, args=(source, sinks, source), daemon=True)
        thread.start()
        self._outputs.append(thread)

    @staticmethod
    def _copy_in(source: int, target: int) -> None:
        # A daemon, and never joined: it may wait for a person.
        sinks = [lambda data: write_all(target, data)]
        threading.Thread(target=_pump, args=(source, sinks, target), daemon=True).start()

    def finish(self) -> None:
        """Wait until all that the container wrote has been passed on."""
        for thread in self._outputs:
            thread.join()

    def close(self) -> None:
        """Free the descriptors that nobody serves."""
        for ends in (self._ours, self._theirs):
            while ends:
                os.close(ends.popitem()[1])


def _pipe() -> tuple[int, int]:
    """With room for a whole block, where the user's share of the kernel's memory for pipes is not used up."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    with contextlib.suppress(OSError):
        fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, _BLOCK)
    return reader, writer


def _pump(source: int, sinks: list[Callable[[bytes], None]], owned: int) -> None:
    """Copy until one side has gone; then close ``owned``, the container's side.

    A reader that is gone (``| head``) thus ends the writer, too: it gets SIGPIPE. A terminal whose last user is gone
    reads as EIO. A full disk ends the log; who watches is not to suffer from it.
    """
    try:
        while data := os.read(source, _BLOCK):
            for sink in tuple(sinks):
                try:
                    sink(data)
                except StoreError:
                    sinks.remove(sink)
    except OSError:
        pass
    finally:
        os.close(owned)
