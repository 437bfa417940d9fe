"""The live view: what it shows, painted on a terminal that is read back."""

from __future__ import annotations

import os
import pty
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TextIO

import pytest

from layersmith.cli.progress.live import LiveProgress
from layersmith.cli.progress.state import State
from layersmith.cli.progress.terminal import Terminal, reflows
from layersmith.cli.progress.view import Glyphs, Row, live_rows, summary_rows
from layersmith.progress import (
    BuiltLayer,
    Event,
    ImageBuilt,
    LayerPacked,
    Notice,
    Planned,
    PlannedStep,
    StepFinished,
    StepOutput,
    StepStarted,
    Transfer,
)

pyte = pytest.importorskip("pyte", reason="needs pyte, a terminal to read back")
DIGEST = "sha256:" + "3f" * 32


def text(row: Row) -> str:
    return "".join(part for part, _ in (*row.left, *row.right))


def state_of(*events: Event) -> State:
    state = State()
    for event in events:
        state.take(event)
    return state


@dataclass
class Screen:
    """A terminal of ``columns`` by ``rows``: what is written to `stream` shows on it."""

    columns: int = 60
    rows: int = 12
    stream: TextIO = field(init=False)

    def __post_init__(self) -> None:
        self._master, slave = pty.openpty()
        self.screen = pyte.HistoryScreen(self.columns, self.rows, history=10_000)
        self._feed = pyte.ByteStream(self.screen)
        self.resize(self.columns, self.rows)
        self.stream = os.fdopen(slave, "w", encoding="utf-8")
        self.written = b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 1 << 16)
            except OSError:
                return
            self.written += data
            self._feed.feed(data)

    def resize(self, columns: int, rows: int) -> None:
        termios.tcsetwinsize(self._master, (rows, columns))
        self.screen.resize(rows, columns)

    def shown(self) -> list[str]:
        time.sleep(0.05)
        return [line.rstrip() for line in self.screen.display]

    def scrolled(self) -> list[str]:
        """Everything since the beginning, what has left the screen included."""
        time.sleep(0.05)
        past = [
            "".join(line[column].data for column in range(self.columns)).rstrip()
            for line in self.screen.history.top
        ]
        return past + [line for line in self.shown() if line]

    def close(self) -> None:
        self.stream.close()
        self._thread.join(timeout=5)
        os.close(self._master)


@pytest.fixture
def screen() -> Iterator[Screen]:
    made = Screen()
    yield made
    made.close()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def test_running_steps_show_their_last_lines() -> None:
    """The command's colours and cursor movements are its own affair; a redrawn line shows as it was last."""
    state = state_of(
        StepStarted(2, "[build 1/2] RUN make"),
        StepOutput(2, 1, b"one\n\x1b[31mtwo\x1b[m\x1b[2J\n10%\r50%\r"),
    )
    shown = [text(row) for row in live_rows(state, state.started + 3, 20, Glyphs())]
    assert shown[1].startswith("▸ [build 1/2] RUN make")
    assert shown[2:] == ["  │ one", "  │ two", "  │ 50%"]


@pytest.mark.parametrize("height", range(1, 40))
def test_the_view_never_exceeds_its_height(height: int) -> None:
    """Whatever goes on at once."""
    events: list[Event] = [Planned(tuple(PlannedStep(n, f"RUN {n}", "exec") for n in range(40)))]
    for step in range(12):
        events += [StepStarted(step, f"RUN {step}"), StepOutput(step, 1, b"line\n" * 20)]
    events += [StepFinished(step, f"RUN {step}", "cached", 0) for step in range(20, 26)]
    events += [StepFinished(step, f"RUN {step}", "ran", 1) for step in range(3)]
    events += [Transfer("pull", f"sha256:{n:064}", 5, 10) for n in range(9)]
    state = state_of(*events)
    rows = live_rows(state, state.started + 1, height, Glyphs())
    assert len(rows) <= height
    if height > 24:
        assert sum(text(row).startswith("▸") for row in rows) == 9
        assert sum(text(row).startswith("↓") for row in rows) > 0


def test_cached_steps_are_one_row_while_it_runs() -> None:
    """Forty hits say no more than one."""
    state = state_of(*(StepFinished(n, f"RUN {n}", "cached", 0) for n in range(40)), StepStarted(41, "RUN x"))
    shown = [text(row) for row in live_rows(state, state.started, 30, Glyphs())]
    assert [line for line in shown if "cached" in line] == ["≡ 40 steps cached"]


def test_the_rate_is_of_the_last_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes, their rate and their share of the whole."""
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    state = State()
    for done in range(11):
        now = 100.0 + done
        state.take(Transfer("pull", DIGEST, done * 1_000_000, 20_000_000))
    (row,) = [text(row) for row in live_rows(state, now, 10, Glyphs()) if text(row).startswith("↓")]
    assert "3f3f3f3f3f3f" in row
    assert "10.0MB of 20.0MB" in row
    assert "1.0MB/s" in row
    assert row.count("━") == 8


def test_the_summary_says_all() -> None:
    """What ran and hit, times, layers' sizes and the digest."""
    state = state_of(
        StepFinished(1, "RUN a", "cached", 0),
        StepStarted(2, "RUN b"),
        StepFinished(2, "RUN b", "ran", 61),
        LayerPacked(2, DIGEST, 2_500_000, 0.1),
        ImageBuilt(DIGEST, ("web:1",), (BuiltLayer(None, DIGEST, 10), BuiltLayer(1, DIGEST, 500)), 62.0),
    )
    shown = [text(row) for row in summary_rows(state, 30, Glyphs(), failed=False)]
    assert shown[0].split() == ["≡", "RUN", "a", "cached", "500B"]
    assert shown[1].split() == ["✔", "RUN", "b", "1m01s", "2.5MB"]
    assert shown[2:] == ["2 steps in 1m02s: 1 ran, 1 cached; 2 layers, 510B", f"built {DIGEST} as web:1"]


def test_the_summary_of_a_stopped_build() -> None:
    """What ran is told, what was stopped as well; there is no image."""
    state = state_of(StepStarted(1, "RUN a"), StepFinished(1, "RUN a", "ran", 1), StepStarted(2, "RUN b"))
    shown = [text(row) for row in summary_rows(state, 30, Glyphs(), failed=True)]
    assert shown[0].split() == ["✔", "RUN", "a", "1.0s"]
    assert shown[1].rstrip() == "▸ RUN bstopped"  # the room between them is the terminal's
    assert len(shown) == 2


def test_a_long_summary_collapses_hits() -> None:
    """Forty cached steps in a row are one line where the screen is small."""
    hits = [StepFinished(n, f"RUN {n}", "cached", 0) for n in range(40)]
    state = state_of(*hits, StepFinished(40, "RUN x", "ran", 1), StepFinished(41, "RUN y", "cached", 0))
    shown = [text(row) for row in summary_rows(state, 24, Glyphs(), failed=False)]
    assert [line.rstrip() for line in shown] == ["≡ 40 steps cached", "✔ RUN x   1.0s", "≡ 1 step cached"]
    assert len(summary_rows(state, 80, Glyphs(), failed=False)) == 42


def test_a_build_on_a_terminal(screen: Screen) -> None:
    """Frames replace each other; warnings stay; at the end there is the summary and nothing else."""
    live = LiveProgress(screen.stream)
    live.emit(Planned((PlannedStep(0, "FROM base", "source"), PlannedStep(1, "RUN make", "exec"))))
    live.emit(StepStarted(1, "RUN make"))
    live.emit(StepOutput(1, 1, "compiling 日本語\n".encode()))
    until(lambda: any("compiling" in line for line in screen.shown()))
    live.emit(Notice("warning", "mind the gap"))
    until(lambda: "warning: mind the gap" in screen.shown())
    live.emit(StepFinished(1, "RUN make", "ran", 0.5))
    live.emit(ImageBuilt(DIGEST, (), (BuiltLayer(1, DIGEST, 100),), 0.6))
    live.close(None)
    shown = [line for line in screen.shown() if line]
    assert shown[0] == "warning: mind the gap"
    assert shown[1].split() == ["✔", "RUN", "make", "0.5s", "100B"]
    assert shown[2] == "1 step in 0.6s: 1 ran; 1 layer, 100B"
    assert "".join(shown[3:]) == f"built {DIGEST}"


def test_frames_do_not_flicker(screen: Screen) -> None:
    """Each is one synchronized write that erases nothing before it is painted over."""
    live = LiveProgress(screen.stream)
    live.emit(StepStarted(1, "RUN make"))
    until(lambda: screen.written.count(b"\x1b[?2026l") >= 4)
    live.close(None)
    time.sleep(0.05)
    frames = screen.written.split(b"\x1b[?2026h")[1:]
    assert all(frame.count(b"\x1b[?2026l") == 1 for frame in frames)
    assert b"\x1b[2J" not in screen.written
    assert b"\x1b[2K" not in screen.written


def test_what_hit_alone_paints_nothing(screen: Screen) -> None:
    """And so loads nothing to paint with."""
    live = LiveProgress(screen.stream)
    live.emit(StepFinished(1, "RUN make", "cached", 0))
    live.emit(ImageBuilt(DIGEST, (), (), 0.01))
    live.close(None)
    shown = [line for line in screen.shown() if line]
    assert shown[0] == "1 step in 0.0s: 1 cached; 0 layers, 0B"
    assert b"\x1b" not in screen.written


def test_resizing_leaves_one_frame(screen: Screen) -> None:
    """On a terminal that cuts its lines, what was printed before stays, and no frame is left behind."""
    screen.stream.write("before\n")
    terminal = Terminal(screen.stream, {"TERM": "linux"})
    rows = [Row((("x" * 80, ""),), ((f"row {n}", ""),)) for n in range(5)]
    for columns, height in ((60, 12), (30, 12), (30, 8), (100, 20), (20, 7)):
        time.sleep(0.05)
        screen.resize(columns, height)
        terminal.paint(rows)
        shown = [line for line in screen.shown() if line]
        assert [line[-5:] for line in shown[-5:]] == [f"row {n}" for n in range(5)]
        assert len(shown) <= 6
        assert all(len(line) < columns for line in shown)


def test_a_reflowed_frame_is_painted_over() -> None:
    """Where the terminal broke the last frame's lines, the way back is longer by what it broke."""
    made = Screen(40, 12)
    terminal = Terminal(made.stream, {"TERM": "xterm-256color"})
    terminal.paint([Row((("y" * 39, ""),)), Row((("z", ""),))])
    made.shown()
    termios.tcsetwinsize(made._master, (12, 20))
    before = len(made.written)
    terminal.paint([Row((("y", ""),))])
    made.shown()
    made.close()
    assert b"\r\x1b[3A" in made.written[before:]


def test_who_reflows() -> None:
    """xterm itself and the console cut; nearly all others reflow."""
    assert reflows({"TERM": "xterm-256color", "VTE_VERSION": "7000"})
    assert reflows({"TERM": "screen-256color", "TMUX": "/tmp/x"})
    assert not reflows({"TERM": "xterm", "XTERM_VERSION": "XTerm(379)"})
    assert not reflows({"TERM": "linux"})


def test_colors_by_the_environment(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR takes the colours away."""
    monkeypatch.setenv("TERM", "xterm-256color")
    row = Row((("ran", "ran"),))
    Terminal(screen.stream, {}).paint([row])
    screen.shown()
    assert b"\x1b[32m" in screen.written
    monkeypatch.setenv("NO_COLOR", "1")
    before = len(screen.written)
    Terminal(screen.stream, {}).paint([row])
    screen.shown()
    assert b"\x1b[32m" not in screen.written[before:]


def test_much_output_costs_no_time(screen: Screen) -> None:
    """100 MB go through in less time than a terminal would need for one."""
    live = LiveProgress(screen.stream)
    live.emit(StepStarted(1, "RUN yes"))
    chunk = (b"x" * 79 + b"\n") * 819
    started = time.monotonic()
    for _ in range(100_000_000 // len(chunk)):
        live.emit(StepOutput(1, 1, chunk))
    elapsed = time.monotonic() - started
    live.close(None)
    assert elapsed < 3, f"{elapsed:.1f} s"
    assert len(screen.written) < 200_000


def test_rich_is_loaded_only_to_paint() -> None:
    """Plain, json and quiet don't; nor does the live view before its first frame."""
    import subprocess

    code = (
        "import sys\nfrom layersmith.cli.progress import display\nimport layersmith.cli.progress.live\n"
        "import layersmith.cli.progress.stream\n"
        "with display('plain'), display('json'), display('quiet'): pass\n"
        "sys.exit('rich' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
