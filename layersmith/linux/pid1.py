"""PID 1 of a sandbox: reaps what the command leaves behind and passes signals on. Runs in the sandbox, after set-up."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Never

from layersmith.linux import libc

HIGHEST_DESCRIPTOR = (1 << 32) - 1
ALL_SIGNALS = frozenset(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}


def block_signals() -> None:
    """From here on signals wait for `supervise`; PID 1 would never get one that it neither blocks nor handles."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ALL_SIGNALS)


def supervise(child: int) -> Never:
    """Exit with ``child``'s status as a shell gives it; with PID 1 the kernel then ends all that is left.

    Every other signal than SIGCHLD goes to ``child``. No descriptor stays open, so that pipes end when the command
    closes them. The memory of this process is out of bounds for the container (it is the spawner's).
    """
    libc.close_range(0, HIGHEST_DESCRIPTOR)
    while True:
        number = signal.sigwaitinfo(ALL_SIGNALS).si_signo
        if number != signal.SIGCHLD:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(child, number)
            continue
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if pid == child:
                os._exit(shell_status(status))


def spare_init() -> None:
    """In the command: if memory runs out, let the kernel choose among what the command started, not its init, which
    would take all the rest along. A process may always offer itself (proc_pid_oom_score_adj(5))."""
    with contextlib.suppress(OSError):  # rootless, and not dumpable yet: then /proc/self is somebody else's
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")


def shell_status(status: int) -> int:
    """A wait status as ``$?`` shows it: the exit code, or 128 and the signal's number."""
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code
