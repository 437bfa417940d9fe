"""Progress for a log: one prefixed line for each line of output, as BuildKit's plain mode. In: events. Out: lines."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TextIO

from layersmith.cli.progress.summary import built_line, count_line
from layersmith.cli.units import human_seconds, human_size
from layersmith.progress import (
    Event,
    ImageBuilt,
    LayerPacked,
    Notice,
    StepFinished,
    StepOutput,
    StepStarted,
    Transfer,
)

COLORS = {"title": "1", "ran": "32", "cached": "36", "failed": "1;31", "warning": "33"}

LONGEST_LINE = 1 << 16
"""Bytes; what is longer is printed in pieces, or a line without an end would be kept for ever."""

# What a terminal would act upon, but for colours: cursor movements, titles, bells.
_COMMANDS = re.compile(
    "\x1b\\[[0-9;:]*[^0-9;:m]|\x1b[\\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\\\)?|\x1b[^\\[]|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f]"
)


class PlainProgress:
    """Prints every event as it comes; a step's lines stay whole and in order."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._lock = threading.Lock()
        self._started: dict[int, float] = {}
        self._partial: dict[tuple[int, int], bytes] = {}
        self._how: dict[str, int] = {}
        self._built: ImageBuilt | None = None
        self._colored = wants_color(self._stream, os.environ)

    def emit(self, event: Event) -> None:
        with self._lock:
            self._write(self._lines(event))

    def close(self, error: BaseException | None) -> None:
        with self._lock:
            for step, stream in sorted(self._partial):
                self._write(self._flush(step, stream))
            if error is None and self._built is not None:
                self._write([count_line(self._how, self._built), built_line(self._built)])

    def _write(self, lines: list[str]) -> None:
        if lines:
            self._stream.write("\n".join(lines) + "\n")
            self._stream.flush()

    def _lines(self, event: Event) -> list[str]:
        match event:
            case StepStarted(step, name):
                self._started[step] = time.monotonic()
                return [self._styled(f"#{step} {name}", "title")]
            case StepOutput(step, stream, data):
                return self._output(step, stream, data)
            case StepFinished(step, name, how, seconds):
                self._how[how] = self._how.get(how, 0) + 1
                rest = [*self._flush(step, 1), *self._flush(step, 2)]
                if how == "cached":
                    return [self._styled(f"#{step} {name}", "title"), self._styled(f"#{step} CACHED", how)]
                if how == "failed":
                    return [*rest, self._styled(f"#{step} ERROR", how)]
                return [*rest, self._styled(f"#{step} DONE {seconds:.1f}s", how)]
            case LayerPacked(step, digest, size, seconds):
                return [f"#{step} layer {digest[7:19]} {human_size(size)} packed in {human_seconds(seconds)}"]
            case Transfer(direction, what, done, total) if done == total:
                return [f"{direction} {what} {human_size(done)}"]
            case Notice(level, text):
                return [self._styled(f"{level}: {text}", level)]
            case ImageBuilt():
                self._built = event
        return []

    def _output(self, step: int, stream: int, data: bytes) -> list[str]:
        *lines, rest = (self._partial.pop((step, stream), b"") + data).split(b"\n")
        if len(rest) > LONGEST_LINE:
            lines.append(rest)
        elif rest:
            self._partial[step, stream] = rest
        return list(self._prefixed(step, lines))

    def _flush(self, step: int, stream: int) -> list[str]:
        rest = self._partial.pop((step, stream), b"")
        return list(self._prefixed(step, [rest])) if rest else []

    def _prefixed(self, step: int, lines: list[bytes]) -> Iterator[str]:
        now = time.monotonic()
        prefix = f"#{step} {now - self._started.get(step, now):.3f} "
        for line in lines:
            # A progress bar redraws its line with carriage returns: what it shows last is what a log wants.
            if b"\r" in line:
                line = line.rstrip(b"\r").rpartition(b"\r")[2]
            text = line.decode("utf-8", "replace")
            yield prefix + (text if text.isprintable() else _COMMANDS.sub("", text))

    def _styled(self, text: str, style: str) -> str:
        code = COLORS.get(style) if self._colored else None
        return f"\x1b[{code}m{text}\x1b[m" if code else text


class QuietProgress:
    """Prints warnings only."""

    def emit(self, event: Event) -> None:
        if isinstance(event, Notice) and event.level == "warning":
            sys.stderr.write(f"{event.level}: {event.text}\n")

    def close(self, error: BaseException | None) -> None:
        pass


def wants_color(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """By NO_COLOR (no-color.org) and FORCE_COLOR (force-color.org), else whether ``stream`` is a terminal."""
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and environ.get("TERM", "dumb") != "dumb"
