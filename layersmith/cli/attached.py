"""Who is on the other side of a container: the caller with their streams and terminal, or nobody (``-d``)."""

from __future__ import annotations

import contextlib
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

from layersmith.containers.streams import Caller
from layersmith.linux import terminal

if TYPE_CHECKING:
    from layersmith.linux.runtime import Started


@contextlib.contextmanager
def attachment(
    args: Namespace, identity: str, ready: Callable[[], None] | None
) -> Iterator[Foreground | Background]:
    """For ``-i``, ``-t`` and (with a ``ready``) ``-d``. After the block the caller's terminal is as it was before."""
    if ready is not None:
        yield Background(identity, ready, open_stdin=args.interactive)
        return
    with Foreground(interactive=args.interactive, tty=args.tty) as foreground:
        yield foreground


class Foreground:
    """The caller's own streams and terminal."""

    def __init__(self, *, interactive: bool, tty: bool) -> None:
        self.caller = Caller(0 if interactive else None, 1, 2)
        self._tty = tty
        self._raw = interactive and tty
        self._restore = ExitStack()

    def __enter__(self) -> Foreground:
        return self

    def __exit__(self, *_: object) -> None:
        self._restore.close()

    def started(self, running: Started) -> None:
        if self._tty:
            self.resized(running)
        if self._raw:
            self._restore.enter_context(terminal.raw(0))

    def resized(self, running: Started) -> None:
        if running.terminal is None:
            return
        size = next((s for s in map(terminal.window_size, (1, 0, 2)) if all(s)), None)
        if size is not None:
            terminal.set_window_size(running.terminal, *size)


class Background:
    """Nobody: ``identity`` is printed when it runs, and then the caller's terminal is let go."""

    def __init__(self, identity: str, ready: Callable[[], None], *, open_stdin: bool) -> None:
        self.caller = Caller(open_stdin=open_stdin)
        self._identity = identity
        self._ready = ready

    def started(self, _: Started) -> None:
        if self._identity:
            print(self._identity, flush=True)
        self._ready()

    def resized(self, _: Started) -> None:
        pass
