"""Being with a process in a sandbox from its start to its end. In: how to start it, who is there. Out: its status."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import FrameType
from typing import Protocol, Self

from layersmith.containers.streams import Caller, Streams
from layersmith.linux.runtime import Started
from layersmith.store.log import LogWriter

FORWARDED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
)
IMPATIENCE = 3
"""After so many SIGINT or SIGTERM in all the process is killed: as PID 1 it ignores what it has no handler for."""


class Attachment(Protocol):
    """Who is on the other side: their streams, and what they want to hear of."""

    @property
    def caller(self) -> Caller: ...

    def started(self, running: Started) -> None:
        """It runs."""

    def resized(self, running: Started) -> None:
        """The caller's terminal has another size."""


def attach(
    start: Callable[[Streams], Started],
    attachment: Attachment,
    *,
    tty: bool,
    log: LogWriter | None = None,
    stop_timeout: float = 10.0,
) -> int:
    """``start`` a process on the streams that it is given, pass on streams and signals; its status.

    For the main thread. Raises what ``start`` raises. However this ends, the process has ended, too.
    """
    with ExitStack() as stack:
        streams = Streams(attachment.caller, log, tty=tty)
        stack.callback(streams.close)
        # From here on no signal may end this process, which has another one to see to its end.
        signals = stack.enter_context(Signals(*FORWARDED, signal.SIGWINCH))
        running = start(streams)
        stack.callback(running.close)
        if running.terminal is not None:
            stack.callback(os.close, running.terminal)
        attachment.started(running)
        if tty:
            running.kill(signal.SIGWINCH)
        streams.start(running.terminal)
        status = _attend(running, signals, attachment, stop_timeout)
        streams.finish()
    return status


def _attend(running: Started, signals: Signals, attachment: Attachment, stop_timeout: float) -> int:
    """Forward ``signals`` until it ends. A terminal that is gone (SIGHUP) leaves nobody who could ask a second time:
    then it is killed after ``stop_timeout`` seconds."""
    poll = select.poll()
    poll.register(running.fileno(), select.POLLIN)
    poll.register(signals.fileno(), select.POLLIN)
    asked = 0
    deadline = None
    while True:
        wait = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        ready = [fd for fd, _ in poll.poll(wait)]
        if running.fileno() in ready:
            return running.wait()
        if not ready:
            running.kill()
            deadline = None
        for number in signals.read():
            asked += number in (signal.SIGINT, signal.SIGTERM)
            if number == signal.SIGWINCH:
                attachment.resized(running)
                running.kill(number)  # an OCI runtime has a terminal of its own in between
            elif asked >= IMPATIENCE:
                running.kill()
            elif number in FORWARDED:
                running.kill(number)
            if number == signal.SIGHUP and deadline is None:
                deadline = time.monotonic() + stop_timeout


class Signals:
    """Signals to this process, as numbers to be read: for the main thread, and as long as the block lasts.

    Nothing is done in the handlers themselves, so what is done about a signal need not be safe at any moment.
    """

    def __init__(self, *numbers: signal.Signals) -> None:
        self._numbers = numbers
        self._restore = ExitStack()
        self._reader = -1

    def __enter__(self) -> Self:
        self._reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        for fd in (self._reader, writer):
            self._restore.callback(os.close, fd)
        self._restore.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(writer, warn_on_full_buffer=False))
        for number in self._numbers:
            before = signal.signal(number, _ignore)
            self._restore.callback(signal.signal, number, signal.SIG_DFL if before is None else before)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore.close()

    def fileno(self) -> int:
        return self._reader

    def read(self) -> tuple[int, ...]:
        """Those that came since the last time."""
        with contextlib.suppress(BlockingIOError):
            return tuple(os.read(self._reader, 512))
        return ()


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """A handler, unlike SIG_IGN, is not inherited through exec."""
