"""Streams, signals and statuses between a caller and a container, on a runtime without isolation."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from layersmith.containers.attach import attach
from layersmith.containers.config import ContainerConfig
from layersmith.containers.container import Containers
from layersmith.containers.status import EXITED, RUNNING
from layersmith.containers.streams import Caller, Streams
from layersmith.containers.supervise import supervise
from layersmith.errors import SandboxError
from layersmith.linux.sandbox import Sandbox
from layersmith.oci.process import Process
from layersmith.store.log import read_log

Make = Callable[..., Callable[[str, str], ContainerConfig]]


class Pipe:
    """A pipe whose read end is drained by a thread."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.data = b""
        self._thread = threading.Thread(target=self._drain)
        self._thread.start()

    def _drain(self) -> None:
        while data := os.read(self.reader, 65536):
            self.data += data

    def close(self) -> bytes:
        os.close(self.writer)
        self._thread.join(5)
        os.close(self.reader)
        return self.data


class Watcher:
    """An `Attachment` that runs ``when_started`` in another thread."""

    def __init__(self, caller: Caller, when_started: Callable[[Any], None] = lambda _: None) -> None:
        self.caller = caller
        self.resizes = 0
        self._when_started = when_started
        self.threads: list[threading.Thread] = []

    def started(self, running: Any) -> None:
        thread = threading.Thread(target=self._when_started, args=(running,))
        thread.start()
        self.threads.append(thread)

    def resized(self, running: Any) -> None:
        self.resizes += 1


@pytest.fixture
def out() -> Iterator[tuple[Pipe, Pipe]]:
    yield Pipe(), Pipe()


def run(runtime: Any, watcher: Watcher, *args: str, tty: bool = False, stop_timeout: float = 10) -> int:
    process = Process(args, (("PATH", os.environ["PATH"]),))

    def start(streams: Streams) -> Any:
        return runtime.run(
            Sandbox("/", process, tty=tty), stdin=streams.stdin, stdout=streams.stdout, stderr=streams.stderr
        )

    return attach(start, watcher, tty=tty, stop_timeout=stop_timeout)


def test_output_and_status(runtime: Any, out: tuple[Pipe, Pipe]) -> None:
    """Both streams arrive whole and apart, and the status is the command's; no descriptor stays open."""
    before = len(os.listdir("/proc/self/fd"))
    watcher = Watcher(Caller(None, out[0].writer, out[1].writer))
    status = run(runtime, watcher, "sh", "-c", "head -c 300000 /dev/zero; echo err >&2; exit 3")
    assert status == 3
    assert len(os.listdir("/proc/self/fd")) == before
    assert out[0].close() == bytes(300000)
    assert out[1].close() == b"err\n"


def test_stdin_ends_where_the_callers_ends(runtime: Any, out: tuple[Pipe, Pipe]) -> None:
    """What the caller has to say arrives, and then the end does."""
    reader, writer = os.pipe()
    os.write(writer, b"said")
    os.close(writer)
    assert run(runtime, Watcher(Caller(reader, out[0].writer)), "cat") == 0
    os.close(reader)
    assert out[0].close() == b"said"
    out[1].close()


def test_no_stdin_is_empty_and_an_open_one_is_silent(runtime: Any, out: tuple[Pipe, Pipe]) -> None:
    """Without -i standard input is /dev/null; of a detached -i container it stays open."""
    assert run(runtime, Watcher(Caller(None, out[0].writer)), "cat") == 0
    watcher = Watcher(
        Caller(None, out[0].writer, open_stdin=True),
        lambda running: (time.sleep(0.2), os.kill(running.pid, signal.SIGTERM)),
    )
    assert run(runtime, watcher, "cat") == 128 + signal.SIGTERM
    assert out[0].close() + out[1].close() == b""


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP, signal.SIGQUIT]
)
def test_signals_are_forwarded(runtime: Any, out: tuple[Pipe, Pipe], number: int) -> None:
    """What would end or disturb this process goes to the container instead."""
    script = f"trap 'echo got; exit 5' {number}; echo ready; while :; do sleep 0.05; done"

    def send(_: Any) -> None:
        while b"ready" not in out[0].data:
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    assert run(runtime, Watcher(Caller(None, out[0].writer), send), "sh", "-c", script) == 5
    assert out[0].close() == b"ready\ngot\n"
    out[1].close()
    assert runtime.running.signals[0] == number


def test_the_third_time_kills(runtime: Any, out: tuple[Pipe, Pipe]) -> None:
    """A command that ignores SIGINT is killed by the third one."""

    def send(_: Any) -> None:
        while b"ready" not in out[0].data:
            time.sleep(0.01)
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)

    script = "trap '' INT; echo ready; while :; do sleep 0.05; done"
    assert run(runtime, Watcher(Caller(None, out[0].writer), send), "sh", "-c", script) == 137
    for pipe in out:
        pipe.close()
    assert runtime.running.signals == [signal.SIGINT, signal.SIGINT, signal.SIGKILL]


def test_a_lost_terminal_kills_after_the_stop_timeout(runtime: Any, out: tuple[Pipe, Pipe]) -> None:
    """After SIGHUP nobody can ask again: a command that ignores it is killed when its time is up."""

    def send(_: Any) -> None:
        while b"ready" not in out[0].data:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGHUP)

    script = "trap '' HUP; echo ready; while :; do sleep 0.05; done"
    watcher = Watcher(Caller(None, out[0].writer), send)
    assert run(runtime, watcher, "sh", "-c", script, stop_timeout=0.2) == 137
    for pipe in out:
        pipe.close()


def test_handlers_are_as_before(runtime: Any) -> None:
    """Signals mean afterwards what they meant before."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGWINCH)]
    assert run(runtime, Watcher(Caller()), "true") == 0
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGWINCH)] == before
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)


def test_a_reader_that_is_gone_ends_the_writer(runtime: Any) -> None:
    """As in `yes | head`: the command gets SIGPIPE, instead of running on for nobody."""
    reader, writer = os.pipe()
    os.close(reader)
    assert run(runtime, Watcher(Caller(None, writer)), "yes") in (128 + signal.SIGPIPE, 1)
    os.close(writer)


def has_terminals() -> bool:
    try:
        for fd in os.openpty():
            os.close(fd)
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_terminals(), reason="needs a /dev/pts to make terminals in")
def test_terminal(runtime: Any, out: tuple[Pipe, Pipe]) -> None:
    """With a terminal all streams are it, input is echoed, and a change of size is told."""
    reader, writer = os.pipe()

    def type_and_resize(_: Any) -> None:
        os.write(writer, b"hi\n")
        os.kill(os.getpid(), signal.SIGWINCH)

    watcher = Watcher(Caller(reader, out[0].writer), type_and_resize)
    script = "test -t 0 && test -t 1 && test -t 2 && read line && echo got $line && sleep 0.2"
    assert run(runtime, watcher, "sh", "-c", script, tty=True) == 0
    os.close(writer)
    os.close(reader)
    assert out[0].close() == b"hi\r\ngot hi\r\n"
    out[1].close()
    assert watcher.resizes == 1


def test_supervise_records_what_happens(runtime: Any, containers: Containers, config: Make) -> None:
    """While it runs: running, with its process; then: exited, with the status and the whole log."""
    seen = []
    with containers.create(config("sh", "-c", "echo out; echo err >&2; exit 4")) as made:
        watcher = Watcher(Caller(), lambda _: seen.append(made.status()))
        sandbox = Sandbox("/", made.config.process)
        status = supervise(made, runtime, sandbox, watcher)
        watcher.threads[0].join()
    assert (status.state, status.code) == (EXITED, 4)
    assert made.status() == status
    assert seen[0].state in (RUNNING, EXITED)
    assert seen[0].started == status.started > 0
    lines = {line.stream: line.data for line in read_log(made.log)}
    assert lines == {1: b"out\n", 2: b"err\n"}


def test_a_container_that_can_not_start(runtime: Any, containers: Containers, config: Make) -> None:
    """The error is raised, and recorded with docker's status for it."""
    runtime.failure = SandboxError("mount overlay: no")
    with containers.create(config()) as made:
        with pytest.raises(SandboxError):
            supervise(made, runtime, Sandbox("/", made.config.process), Watcher(Caller()))
    status = made.status()
    assert (status.state, status.code, status.error, status.started) == (
        EXITED,
        125,
        "mount overlay: no",
        0.0,
    )


def test_without_a_log_none_is_written(
    runtime: Any, containers: Containers, config: Make, out: tuple[Pipe, Pipe]
) -> None:
    """With the log off the output still arrives, and no file is made."""
    with containers.create(config("echo", "hi", log=False)) as made:
        watcher = Watcher(Caller(None, out[0].writer, out[1].writer))
        supervise(made, runtime, Sandbox("/", made.config.process), watcher)
    assert out[0].close() == b"hi\n"
    out[1].close()
    assert not Path(made.log).exists()
