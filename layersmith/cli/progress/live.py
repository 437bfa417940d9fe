"""Progress on a terminal: a view of what runs, repainted. In: events. Out: frames, and at the end a summary.

Whoever emits never waits for the terminal: events only change the `State`, which is painted ten times a second by a
thread. That begins with the first step that runs, when the build has forked what it forks; before that, the threads
that emit paint. What ends at once is never painted, and loads nothing to paint with.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, TextIO

from layersmith.cli.progress.state import State
from layersmith.cli.progress.summary import built_line, count_line
from layersmith.cli.progress.view import ASCII, Glyphs, Row, live_rows, summary_rows
from layersmith.progress import Event, Notice, StepOutput, StepStarted

if TYPE_CHECKING:
    from layersmith.cli.progress.terminal import Terminal

PERIOD = 0.1
PATIENCE = 0.15
"""Seconds before the first frame."""


class LiveProgress:
    """A view of at most one screen; ``ticking``: from the beginning in a thread of its own."""

    def __init__(self, stream: TextIO | None = None, *, ticking: bool = False) -> None:
        self._stream = stream or sys.stderr
        encoding = (getattr(self._stream, "encoding", None) or "ascii").lower()
        self._glyphs = Glyphs() if encoding.startswith("utf") else ASCII
        self._state = State()
        self._notices: list[Row] = []
        self._lock = threading.Lock()
        self._paint_lock = threading.Lock()
        self._painted = self._state.started + PATIENCE - PERIOD
        self._terminal: Terminal | None = None
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        if ticking:
            self._start()

    def emit(self, event: Event) -> None:
        with self._lock:
            self._state.take(event)
            if isinstance(event, Notice):
                style = "warning" if event.level == "warning" else "dim"
                self._notices.append(Row(((f"{event.level}: ", style), (event.text, ""))))
            if isinstance(event, StepStarted) and self._thread is None:
                self._start()
        if self._thread is None and not isinstance(event, StepOutput):
            self._paint_if_due()

    def close(self, error: BaseException | None) -> None:
        self._closed.set()
        if self._thread is not None:
            self._thread.join()
        if self._terminal is None and error is None and not self._state.how["ran"]:
            self._end_quickly()
            return
        with contextlib.suppress(OSError):  # the terminal may be gone
            terminal = self._open()
            _, height = terminal.size()
            rows = summary_rows(self._state, height, self._glyphs, failed=error is not None)
            notices, self._notices = self._notices, []
            terminal.paint([], above=[*notices, *rows])

    def _end_quickly(self) -> None:
        """What came from the cache alone: nothing was painted, and what paints is not loaded."""
        for row in self._notices:
            self._stream.write("".join(text for text, _ in row.left) + "\n")
        if self._state.built is not None:
            self._stream.write(count_line(self._state.how, self._state.built) + "\n")
            self._stream.write(built_line(self._state.built) + "\n")
        self._stream.flush()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._tick, name="progress", daemon=True)
        self._thread.start()

    def _tick(self) -> None:
        while not self._closed.wait(PERIOD / 2):
            self._paint_if_due()

    def _paint_if_due(self) -> None:
        if time.monotonic() - self._painted < PERIOD or not self._paint_lock.acquire(blocking=False):
            return
        try:
            with contextlib.suppress(OSError):
                self._paint()
            self._painted = time.monotonic()
        finally:
            self._paint_lock.release()

    def _paint(self) -> None:
        terminal = self._open()
        _, height = terminal.size()
        with self._lock:
            rows = live_rows(self._state, time.monotonic(), height - 1, self._glyphs)
            notices, self._notices = self._notices, []
        terminal.paint(rows, above=notices)

    def _open(self) -> Terminal:
        if self._terminal is None:
            from layersmith.cli.progress.terminal import Terminal

            self._terminal = Terminal(self._stream, os.environ)
        return self._terminal
