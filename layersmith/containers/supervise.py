"""The supervisor: runs a container to its end and records what became of it. In: a container, its sandbox. Out: `Status`."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from contextlib import ExitStack

from layersmith.containers.attach import Attachment, attach
from layersmith.containers.container import Container
from layersmith.containers.status import EXITED, RUNNING, Status
from layersmith.containers.streams import Streams
from layersmith.errors import LayersmithError
from layersmith.linux.runtime import Runtime, Started
from layersmith.linux.sandbox import Sandbox
from layersmith.store.log import LogWriter

FAILED = 125


def supervise(
    container: Container,
    runtime: Runtime,
    sandbox: Sandbox,
    attachment: Attachment,
    *,
    diagnose: Callable[[], str] = str,
) -> Status:
    """Run ``container``, whose lock the caller holds, to its end. Raises SandboxError, StepError: it could not start.

    Either is recorded, with what ``diagnose`` has to say about the end.
    """
    begun = 0.0
    code, error = FAILED, ""

    def start(streams: Streams) -> Started:
        nonlocal begun
        running = runtime.run(sandbox, stdin=streams.stdin, stdout=streams.stdout, stderr=streams.stderr)
        begun = time.time()
        container.record(
            Status(RUNNING, begun, running.pid, os.getpid(), started=begun, cgroups=sandbox.cgroups)
        )
        return running

    with ExitStack() as stack:
        log = stack.enter_context(LogWriter(container.log)) if container.config.log else None
        timeout = container.config.stop_timeout
        try:
            code = attach(start, attachment, tty=sandbox.tty, log=log, stop_timeout=timeout)
            error = diagnose()
        except LayersmithError as failure:
            error = failure.message
            raise
        finally:
            status = Status(EXITED, time.time(), code=code, error=error, started=begun)
            with contextlib.suppress(LayersmithError):
                container.record(status)
    return status
