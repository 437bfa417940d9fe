"""Plain progress: whole lines, in order, fit for a log."""

from __future__ import annotations

import io
import re
import time

import pytest

from layersmith.cli.progress import _mode
from layersmith.cli.progress.plain import LONGEST_LINE, PlainProgress
from layersmith.progress import BuiltLayer, ImageBuilt, StepFinished, StepOutput, StepStarted


def lines_of(*chunks: bytes) -> list[str]:
    stream = io.StringIO()
    progress = PlainProgress(stream)
    progress.emit(StepStarted(3, "RUN make"))
    for chunk in chunks:
        progress.emit(StepOutput(3, 1, chunk))
    progress.emit(StepFinished(3, "RUN make", "ran", 1.5))
    return [re.sub(r"^#3 \d+\.\d{3} ", "#3 T ", line) for line in stream.getvalue().splitlines()]


def test_every_line_has_the_steps_number() -> None:
    """A line that comes in pieces is one; the last one needs no end."""
    assert lines_of(b"on", b"e\ntwo\n", b"three") == [
        "#3 RUN make", "#3 T one", "#3 T two", "#3 T three", "#3 DONE 1.5s"
    ]  # fmt: skip


def test_colors_stay_and_commands_go() -> None:
    """A log is no terminal: what would move its cursor or ring its bell is left out, colours are not."""
    assert lines_of(b"\x1b[31mred\x1b[m\x1b[2J\x1b]0;title\x07\a!\n")[1] == "#3 T \x1b[31mred\x1b[m!"


def test_a_progress_bar_is_its_last_state() -> None:
    """A carriage return begins the line anew."""
    assert lines_of(b"10%\r50%\r100%\r\n")[1] == "#3 T 100%"


def test_a_line_without_an_end_is_printed_in_pieces() -> None:
    """All of it, and without taking the square of its length."""
    started = time.monotonic()
    found = lines_of(*[b"x" * 65536] * 400)
    assert sum(line.count("x") for line in found[1:-1]) == 400 * 65536
    assert all(len(line) < 3 * LONGEST_LINE for line in found)
    assert time.monotonic() - started < 3


def test_much_output_is_no_bottleneck() -> None:
    """100 MB of lines in a few seconds, every one of them."""
    stream = io.StringIO()
    progress = PlainProgress(stream)
    progress.emit(StepStarted(3, "RUN yes"))
    chunk = (b"y" * 79 + b"\n") * 819
    started = time.monotonic()
    for _ in range(1526):
        progress.emit(StepOutput(3, 1, chunk))
    assert time.monotonic() - started < 15
    assert stream.getvalue().count("\n") == 1526 * 819 + 1


@pytest.mark.parametrize(
    ("environ", "colored"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)],
)
def test_colors_by_the_environment(
    environ: dict[str, str], colored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FORCE_COLOR for a CI log, NO_COLOR for those who want none."""
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert ("\x1b[" in "".join(lines_of(b"x\n"))) == colored


def test_it_ends_with_the_image() -> None:
    """How many steps ran and hit, and the digest."""
    stream = io.StringIO()
    progress = PlainProgress(stream)
    progress.emit(StepFinished(1, "RUN a", "cached", 0))
    progress.emit(ImageBuilt("sha256:1", ("web",), (BuiltLayer(1, "sha256:2", 1000),), 2.0))
    progress.close(None)
    assert stream.getvalue().splitlines()[-2:] == [
        "1 step in 2.0s: 1 cached; 1 layer, 1.0kB",
        "built sha256:1 as web",
    ]


def test_dockers_variable_is_the_default() -> None:
    """What the command line says comes first."""
    assert _mode("auto", {"BUILDKIT_PROGRESS": "rawjson"}) == "json"
    assert _mode("auto", {"BUILDKIT_PROGRESS": "plain"}) == "plain"
    assert _mode("auto", {"BUILDKIT_PROGRESS": "nonsense"}) == "auto"
    assert _mode("tty", {"BUILDKIT_PROGRESS": "plain"}) == "tty"
