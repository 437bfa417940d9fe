"""The supervisor: starts a container, forwards signals, waits. In: a container, its sandbox. Out: its `Status`."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

from layersmith.containers.container import Container
from layersmith.containers.log import LogWriter
from layersmith.containers.runtime import Runtime, Started
from layersmith.containers.status import EXITED, RUNNING, Status
from layersmith.containers.streams import Caller, Streams
from layersmith.errors import LayersmithError
from layersmith.linux.sandbox import Sandbox

FORWARDED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGWINCH,
)
IMPATIENCE = 3
"""After so many SIGINT or SIGTERM in all the container is killed: PID 1 ignores what it has no handler for."""

FAILED = 125


class Signals:
    """Signals to this process, as numbers to be read: for the main thread, and as long as the block lasts.

    Nothing is done in the handlers themselves, so what they would do needs not be safe at any moment.
    """

    def __init__(self, *numbers: signal.Signals) -> None:
        self._numbers = numbers
        self._before: dict[int, object] = {}

    def __enter__(self) -> Signals:
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in self._numbers:
            self._before[number] = signal.signal(number, lambda *_: None)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)  # type: ignore[arg-type]
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._reader)
        os.close(self._writer)

    def fileno(self) -> int:
        return self._reader

    def read(self) -> tuple[int, ...]:
        """Those that came since the last time."""
        with contextlib.suppress(BlockingIOError):
            return tuple(os.read(self._reader, 512))
        return ()


def supervise(
    container: Container,
    runtime: Runtime,
    sandbox: Sandbox,
    caller: Caller,
    *,
    started: Callable[[Started], None] = lambda _: None,
    resized: Callable[[Started], None] = lambda _: None,
) -> Status:
    """Run ``container``, which the calling thread (the main one) supervises, to its end.

    ``started`` is called when it runs, ``resized`` when the caller's terminal has another size. Raises SandboxError,
    StepError: it could not be started, which is then recorded, too.
    """
    begun = 0.0
    with ExitStack() as stack:
        status = Status(EXITED, 0.0, code=FAILED)
        try:
            log = stack.enter_context(LogWriter(container.log)) if container.config.log else None
            streams = Streams(caller, log, tty=sandbox.tty)
            stack.callback(streams.close)
            # From here on a signal must not end this process, for it owns the container.
            signals = stack.enter_context(Signals(*FORWARDED))
            running = runtime.run(sandbox, stdin=streams.stdin, stdout=streams.stdout, stderr=streams.stderr)
            stack.callback(running.close)
            begun = time.time()
            streams.start(running.terminal)
            container.record(Status(RUNNING, begun, running.pid, os.getpid(), started=begun))
            started(running)
            code = attend(running, signals, container.config.stop_timeout, resized)
            streams.finish()
            status = Status(EXITED, 0.0, code=code)
        except LayersmithError as error:
            status = Status(EXITED, 0.0, code=FAILED, error=error.message)
            raise
        finally:
            status = _ended(status, begun)
            with contextlib.suppress(LayersmithError):
                container.record(status)
    return status


def _ended(status: Status, begun: float) -> Status:
    return replace(status, at=time.time(), started=begun)


def attend(
    running: Started,
    signals: Signals,
    stop_timeout: float,
    resized: Callable[[Started], None] = lambda _: None,
) -> int:
    """Forward ``signals`` to ``running`` until it ends; its status.

    A terminal that is gone (SIGHUP) leaves nobody to ask again: then it is killed after ``stop_timeout`` seconds.
    """
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
                resized(running)
            elif asked >= IMPATIENCE:
                running.kill()
            elif number in FORWARDED:
                running.kill(number)
            if number == signal.SIGHUP and deadline is None:
                deadline = time.monotonic() + stop_timeout
