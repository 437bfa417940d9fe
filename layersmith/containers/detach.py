"""``-d``: work that outlives the command that began it. In: a function. Out: a process that is on its own."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from typing import Never

from layersmith.store.files import write_all

_BLOCK = 1 << 16


def detach(work: Callable[[Callable[[], None]], int]) -> int:
    """Do ``work(ready)`` in another process, which from ``ready()`` on is on its own: a session without a terminal.

    Until then, what it writes to standard output and error is passed on. Returns 0 when it is ready, or else the status
    that ``work`` returned without ever being. No thread may run in the caller.
    """
    # All of them pipes to this process, not the caller's own descriptors: whatever the work forks inherits them, and
    # who reads the caller's output would wait for the container's end.
    pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
    child = os.fork()
    if child == 0:
        for reader, _ in pipes:
            os.close(reader)
        _work(work, *(writer for _, writer in pipes))
    for _, writer in pipes:
        os.close(writer)
    try:
        if _relay(*(reader for reader, _ in pipes)):
            return 0
    finally:
        for reader, _ in pipes:
            os.close(reader)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _relay(output: int, errors: int, ready: int) -> bool:
    """Pass on what comes, until the work is ready (True) or has ended."""
    poll = select.poll()
    targets = {output: 1, errors: 2}
    for fd in (output, errors, ready):
        poll.register(fd, select.POLLIN)
    while True:
        found = {fd for fd, _ in poll.poll()}
        for fd in found - {ready}:
            data = os.read(fd, _BLOCK)
            write_all(targets[fd], data)
            if not data:
                poll.unregister(fd)
        # What was written before the work was ready has been in its pipe since before that.
        if found == {ready}:
            return bool(os.read(ready, 1))


def _work(work: Callable[[Callable[[], None]], int], output: int, errors: int, ready: int) -> Never:
    status = 1
    try:
        _replace(0, os.open(os.devnull, os.O_RDONLY))
        _replace(1, output)
        _replace(2, errors)
        status = work(lambda: _leave(ready))
    finally:
        os._exit(status)


def _leave(ready: int) -> None:
    os.setsid()
    os.chdir("/")
    for fd in range(3):
        _replace(fd, os.open(os.devnull, os.O_RDWR))
    os.write(ready, b".")
    os.close(ready)


def _replace(fd: int, source: int) -> None:
    os.dup2(source, fd)
    os.close(source)
