"""Progress of a build on standard error: one prefixed line for each line of output, as BuildKit's plain mode."""

from __future__ import annotations

import sys
import threading
import time
from typing import TextIO

from layersmith.progress import (
    Event,
    LayerPacked,
    Notice,
    StepFinished,
    StepOutput,
    StepStarted,
    Transfer,
)


class PlainProgress:
    """Prints every event as it comes; a step's lines stay whole and in order."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._lock = threading.Lock()
        self._started: dict[int, float] = {}
        self._partial: dict[tuple[int, int], bytes] = {}

    def emit(self, event: Event) -> None:
        with self._lock:
            for line in self._lines(event):
                self._stream.write(line + "\n")
            self._stream.flush()

    def _lines(self, event: Event) -> list[str]:
        match event:
            case StepStarted(step, name):
                self._started[step] = time.monotonic()
                return [f"#{step} {name}"]
            case StepOutput(step, stream, data):
                return self._output(step, stream, data)
            case StepFinished(step, name, how, seconds):
                rest = [*self._flush(step, 1), *self._flush(step, 2)]
                if how == "cached":
                    return [f"#{step} {name}", f"#{step} CACHED"]
                if how == "failed":
                    return [*rest, f"#{step} ERROR"]
                return [*rest, f"#{step} DONE {seconds:.1f}s"]
            case LayerPacked(step, digest, size, seconds):
                return [f"#{step} layer {digest[7:19]} {human_size(size)} packed in {seconds:.1f}s"]
            case Transfer(direction, what, done, total) if done == total:
                return [f"{direction} {what} {human_size(done)}"]
            case Notice(level, text):
                return [f"{level}: {text}"]
        return []

    def _output(self, step: int, stream: int, data: bytes) -> list[str]:
        *lines, rest = (self._partial.pop((step, stream), b"") + data).split(b"\n")
        if rest:
            self._partial[step, stream] = rest
        return [self._line(step, line) for line in lines]

    def _flush(self, step: int, stream: int) -> list[str]:
        rest = self._partial.pop((step, stream), b"")
        return [self._line(step, rest)] if rest else []

    def _line(self, step: int, line: bytes) -> str:
        seconds = time.monotonic() - self._started.get(step, time.monotonic())
        # A progress bar redraws its line with carriage returns: what it shows last is what a log wants.
        text = line.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", "replace")
        return f"#{step} {seconds:.3f} {text}"


class QuietProgress:
    """Prints warnings only."""

    def emit(self, event: Event) -> None:
        if isinstance(event, Notice) and event.level == "warning":
            sys.stderr.write(f"{event.level}: {event.text}\n")


def human_size(size: float) -> str:
    """``1536`` as ``1.5KB``: powers of 1000, as docker prints them."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f}{unit}" if unit == "B" or size >= 100 else f"{size:.1f}{unit}"
        size /= 1000
    return f"{size:.1f}TB"
