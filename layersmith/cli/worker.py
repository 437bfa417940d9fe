"""The far side of `layersmith.api.worker`: one command in a process of its own. In: words. Out: events, errors as values.

A process that isolates itself must have one thread and nobody else's mounts, which a library can't ask of the program that
imports it. So the Python API starts this module in a fresh interpreter: the command runs as from a shell, but what
it tells goes over a socket, pickled, to the process that started it.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import pickle
import signal
import socket
import struct
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layersmith.progress import Event

LENGTH = struct.Struct("<Q")


class Channel:
    """Where a command's events and its error go; a `layersmith.cli.progress.Display`."""

    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer
        self._lock = threading.Lock()

    def emit(self, event: Event) -> None:
        self.send("event", event)

    def close(self, error: BaseException | None) -> None:
        pass

    def send(self, *message: Any) -> None:
        """One message: its length, and then a pickle."""
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        with self._lock:
            self._peer.sendall(LENGTH.pack(len(data)) + data)


def main() -> int:
    """``argv``: the descriptors of the socket and of a pipe whose other end the caller holds, the command, its words."""
    channel_fd, alive_fd, name, *words = sys.argv[1:]
    for number in (int(channel_fd), int(alive_fd)):
        fcntl.fcntl(number, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    channel = Channel(socket.socket(fileno=int(channel_fd)))
    _die_with(int(alive_fd), signal.SIGKILL if name in ("run", "exec") else signal.SIGTERM)
    return _run(name, words, channel)


def _die_with(alive: int, number: signal.Signals) -> None:
    """Have the kernel send ``number`` when the last writer of the pipe ``alive`` is gone.

    Not PR_SET_PDEATHSIG: that comes when the caller's thread ends, not its process. Not a thread: there may be none.
    """
    fcntl.fcntl(alive, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(alive, fcntl.F_SETSIG, number)
    fcntl.fcntl(alive, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    try:
        if os.read(alive, 1) == b"":
            os._exit(130)  # it went before we listened
    except BlockingIOError:
        pass


def _run(name: str, words: list[str], channel: Channel) -> int:
    from layersmith import cli
    from layersmith.errors import Cancelled, LayersmithError, UsageError

    module = importlib.import_module(f"layersmith.cli.{cli.COMMANDS[name].module}")
    parser = cli.command_parser(name, module)

    def refuse(message: str) -> None:
        raise UsageError(message)

    parser.error = refuse  # type: ignore[method-assign, assignment]
    try:
        args = parser.parse_args(words)
        if hasattr(args, "progress"):
            args.progress = channel
        status = int(cli.command_function(name, module)(args))
        sys.stdout.flush()
        return status
    except LayersmithError as error:
        failure = error
    except KeyboardInterrupt:
        failure = Cancelled("stopped")
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        failure = LayersmithError(f"{where}{error.strerror or error}")
    channel.send("error", type(failure), failure.args, failure.__dict__)
    return failure.exit_code


if __name__ == "__main__":
    sys.exit(main())
