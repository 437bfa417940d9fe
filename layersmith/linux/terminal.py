"""Terminals: one for a container, made in its own /dev/pts, and the caller's own for as long as it is connected to it."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager

TIOCSPTLCK, TIOCGPTPEER = 0x40045431, 0x5441
TTY_GROUP = 5


def open_pair(devpts: int) -> tuple[int, int]:
    """(controller, terminal) of the devpts instance whose root ``devpts`` is. Runs in the sandbox's set-up.

    The terminal is opened through its controller (TIOCGPTPEER), never by a path that an image could have prepared.
    """
    controller = os.open("ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=devpts)
    fcntl.ioctl(controller, TIOCSPTLCK, struct.pack("i", 0))
    return controller, fcntl.ioctl(controller, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)


def become_controlling(terminal: int) -> None:
    """Make ``terminal`` the calling session leader's controlling terminal and its descriptors 0, 1 and 2."""
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
    for descriptor in range(3):
        os.dup2(terminal, descriptor)


def window_size(terminal: int) -> tuple[int, int]:
    """(rows, columns) of a terminal; (0, 0) if it has none."""
    try:
        size = os.get_terminal_size(terminal)
    except OSError:
        return 0, 0
    return size.lines, size.columns


def set_window_size(controller: int, rows: int, columns: int) -> None:
    """Tell the container's terminal its size; its foreground processes get SIGWINCH."""
    fcntl.ioctl(controller, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))


@contextmanager
def raw(terminal: int) -> Iterator[None]:
    """``terminal`` without echo, line editing and signals while the block runs; nothing if it is none."""
    if not os.isatty(terminal):
        yield
        return
    before = termios.tcgetattr(terminal)
    tty.setraw(terminal, termios.TCSANOW)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
