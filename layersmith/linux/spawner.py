"""The spawner: a small single-threaded process that forks every sandbox. In: `Sandbox`. Out: `Running`.

Forking a threaded Python is unsafe and starting a fresh one slow, so one is forked before any thread exists. It, and
all it ever started, dies with its parent however that dies.
"""

from __future__ import annotations

from types import TracebackType

from layersmith.linux.sandbox import Sandbox
from layersmith.oci.process import Process


class Running:
    """A started process.

    ``pid``: its first process' id in the caller's PID namespace. ``terminal``: the controlling end of its terminal
    (the caller closes it), None without ``tty``.
    """

    pid: int
    terminal: int | None

    def wait(self) -> int:
        """Its status as a shell gives it (128+n for signal n, 126 not executable, 127 not found).

        Blocks; may be called again. Afterwards the mount points that were made for it are gone from the upper
        directory. Raises SandboxError where setting up failed after `Spawner.run` had returned.
        """
        raise NotImplementedError

    def kill(self, signal: int = 9) -> None:
        """Send ``signal``: SIGKILL and SIGSTOP to everything in the sandbox, others to its main process. Never fails."""
        raise NotImplementedError

    def fileno(self) -> int:
        """A descriptor that polls readable once the process has ended."""
        raise NotImplementedError

    def close(self) -> None:
        """Kill it if it still runs, wait for it, and free its descriptors. Idempotent; the end of a ``with`` block."""
        raise NotImplementedError

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Spawner:
    """Starts sandboxes; safe to use from many threads at once."""

    @classmethod
    def start(cls, *, contained: bool = True) -> Spawner:
        """Fork the spawner. After `userns.enter` and before any thread. ``contained``: in a PID namespace of its own,
        so that the kernel itself ends everything; off only for `enter_running` of another process' sandbox."""
        raise NotImplementedError

    def run(self, sandbox: Sandbox, *, stdin: int, stdout: int, stderr: int) -> Running:
        """Start ``sandbox``; returns once it is set up. The descriptors stay the caller's (close them after this).

        With ``sandbox.tty`` they are not used. Raises SandboxError (operation, path, errno), StepError (unknown user).
        """
        raise NotImplementedError

    def enter_running(
        self,
        pid: int,
        sandbox: Sandbox,
        process: Process,
        *,
        stdin: int,
        stdout: int,
        stderr: int,
        tty: bool = False,
    ) -> Running:
        """Start ``process`` in the namespaces of the running sandbox whose first process is ``pid`` (``exec``).

        ``sandbox`` gives capabilities, seccomp, limits and control groups. Raises SandboxError, StepError.
        """
        raise NotImplementedError

    def close(self) -> None:
        """End the spawner and all that it runs. Idempotent."""
        raise NotImplementedError

    def __enter__(self) -> Spawner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
