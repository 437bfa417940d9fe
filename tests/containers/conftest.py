"""A runtime that is none: the sandbox's process runs as an ordinary child, so what surrounds it can be tested anywhere."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from layersmith.containers.config import ContainerConfig
from layersmith.containers.container import Containers
from layersmith.errors import SandboxError
from layersmith.linux.sandbox import Sandbox
from layersmith.oci.descriptor import Descriptor
from layersmith.oci.digest import digest_of
from layersmith.oci.process import Process

MANIFEST = Descriptor("application/vnd.oci.image.manifest.v1+json", digest_of(b"manifest"), 8)


class FakeRunning:
    def __init__(self, process: subprocess.Popen[bytes], terminal: int | None) -> None:
        self.pid = process.pid
        self.terminal = terminal
        self.signals: list[int] = []
        self._process = process
        self._pidfd = os.pidfd_open(process.pid)

    def fileno(self) -> int:
        return self._pidfd

    def wait(self) -> int:
        status = self._process.wait()
        return status if status >= 0 else 128 - status

    def kill(self, number: int = 9) -> None:
        self.signals.append(number)
        self._process.send_signal(number)

    def close(self) -> None:
        if self._pidfd >= 0:
            self._process.kill()
            self._process.wait()
            os.close(self._pidfd)
            self._pidfd = -1


class FakeRuntime:
    """`Runtime` without any isolation. ``failure`` is raised by `run` if set."""

    def __init__(self) -> None:
        self.failure: SandboxError | None = None
        self.running: FakeRunning | None = None

    def run(self, sandbox: Sandbox, *, stdin: int, stdout: int, stderr: int) -> FakeRunning:
        if self.failure:
            raise self.failure
        controller = None
        ends = (stdin, stdout, stderr)
        if sandbox.tty:
            controller, terminal = pty.openpty()
            ends = (terminal, terminal, terminal)
        process = subprocess.Popen(
            sandbox.process.args,
            env=dict(sandbox.process.env),
            stdin=ends[0],
            stdout=ends[1],
            stderr=ends[2],
            start_new_session=True,
            restore_signals=True,
            preexec_fn=None if controller is None else _take_terminal,
        )
        if controller is not None:
            os.close(ends[0])
        self.running = FakeRunning(process, controller)
        return self.running


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def runtime() -> FakeRuntime:
    return FakeRuntime()


@pytest.fixture
def containers(tmp_path: Path) -> Containers:
    return Containers(tmp_path / "store")


Make = Callable[..., Callable[[str, str], ContainerConfig]]


@pytest.fixture
def config() -> Make:
    """A function whose result `Containers.create` takes: the config of a container that runs ``args``."""

    def with_args(*args: str, **settings: object) -> Callable[[str, str], ContainerConfig]:
        def make(id: str, name: str) -> ContainerConfig:
            process = Process(args or ("true",), (("PATH", os.environ["PATH"]),))
            return ContainerConfig(id, name, "demo", MANIFEST, 0.0, process, **settings)  # type: ignore[arg-type]

        return make

    return with_args


@pytest.fixture(autouse=True)
def _default_signals() -> object:
    """Whatever started pytest may have left SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
