"""Output on disk, of containers and of steps, in the CRI log format. In: bytes of a stream. Out: the same, with time and stream.

    2016-10-06T00:17:09.669794202Z stdout F a whole line
    2016-10-06T00:17:10.113242941Z stderr P a part of one

See https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from layersmith.dataclass import dataclass
from layersmith.store.files import storing, write_all

STDOUT, STDERR = 1, 2
_NAMES = {STDOUT: b"stdout", STDERR: b"stderr"}
_NUMBERS = {name: number for number, name in _NAMES.items()}
_BLOCK = 1 << 16
_POLL_SECONDS = 0.1


class LogWriter:
    """Appends to the log at ``path``; safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        with storing(path):
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._mutex = threading.Lock()

    def write(self, stream: int, data: bytes) -> None:
        """Record ``data``, which ``stream`` (1 or 2) gave just now. Raises StoreError."""
        prefix = timestamp(time.time_ns()).encode() + b" " + _NAMES[stream]
        *lines, rest = data.split(b"\n")
        parts = [prefix + b" F " + line + b"\n" for line in lines]
        if rest:
            parts.append(prefix + b" P " + rest + b"\n")
        with self._mutex, storing("the log"):
            write_all(self._fd, b"".join(parts))

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class LogLine:
    """``data`` (with its line end, if it is a whole line) that ``stream`` gave at ``time``."""

    time: str
    stream: int
    data: bytes


def read_log(
    path: Path, *, tail: int | None = None, since: str = "", follow: Callable[[], bool] | None = None
) -> Iterator[LogLine]:
    """The lines of a log, oldest first.

    ``tail``: only the last so many lines. ``since``: none older than this `timestamp`. ``follow``: as long as it is
    true, wait for more at the end; what was written before it became false is given out still.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if tail is not None:
            os.lseek(fd, _tail_offset(fd, tail), os.SEEK_SET)
        for line in _lines(fd, follow):
            fields = line.split(b" ", 3)
            if len(fields) < 4 or fields[1] not in _NUMBERS:
                continue
            at = fields[0].decode("ascii", "replace")
            if at >= since:
                end = b"\n" if fields[2] == b"F" else b""
                yield LogLine(at, _NUMBERS[fields[1]], fields[3] + end)
    finally:
        os.close(fd)


def _lines(fd: int, follow: Callable[[], bool] | None) -> Iterator[bytes]:
    rest = b""
    while True:
        # Asked before reading: what came before the end is then in the file.
        more = follow is not None and follow()
        while data := os.read(fd, _BLOCK):
            *lines, rest = (rest + data).split(b"\n")
            yield from lines
        if not more:
            return
        time.sleep(_POLL_SECONDS)


def _tail_offset(fd: int, count: int) -> int:
    """Where the last ``count`` lines of output begin; a last one that has no end yet counts."""
    start = os.fstat(fd).st_size
    found = 0
    for offset, line in _backwards(fd, start):
        if _is_whole(line) or found == 0:
            if found == count:
                return start
            found += 1
        start = offset
    return 0 if found else start


def _backwards(fd: int, position: int) -> Iterator[tuple[int, bytes]]:
    """The lines before ``position`` with their offsets, the last one first."""
    rest = b""
    while position > 0:
        step = min(_BLOCK, position)
        position -= step
        data = os.pread(fd, step, position) + rest
        rest, *lines = data.split(b"\n")
        end = position + len(data)
        for line in reversed(lines):
            if line:
                yield end - len(line), line
            end -= len(line) + 1
    if rest:
        yield 0, rest


def _is_whole(line: bytes) -> bool:
    fields = line.split(b" ", 3)
    return len(fields) > 2 and fields[2] == b"F"


def timestamp(nanoseconds: int) -> str:
    """RFC 3339 in UTC with nine digits, so that texts sort as times do."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:09d}Z"
