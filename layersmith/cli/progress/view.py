"""What a live view looks like. In: a `State`, the room there is. Out: `Row`s, no more than fit.

Nothing here knows of escape sequences: a row is text with the names of its styles.
"""

from __future__ import annotations

from layersmith.cli.progress.state import State, StepState, TransferState
from layersmith.cli.progress.summary import built_line, count_line
from layersmith.cli.units import human_seconds, human_size
from layersmith.dataclass import dataclass

MOST_LINES = 6
"""Of a running step's output."""

BAR = 16

Part = tuple[str, str]
"""A text, and the name of its style (``""``: none)."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the screen: ``left`` is cut where there is no room for it beside ``right``."""

    left: tuple[Part, ...]
    right: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Glyphs:
    ran: str = "✔"
    cached: str = "≡"
    failed: str = "✘"
    running: str = "▸"
    pull: str = "↓"
    push: str = "↑"
    full: str = "━"
    empty: str = "─"
    bar: str = "│"


ASCII = Glyphs("+", "=", "x", ">", "v", "^", "#", ".", "|")
"""For a terminal that has no others."""


def live_rows(state: State, now: float, height: int, glyphs: Glyphs) -> list[Row]:
    """What goes on, in at most ``height`` rows.

    Every running step comes first, then transfers; the room that is left goes to output, then to what is done.
    """
    running, moving = state.running(), state.moving()
    room = max(1, height)
    head = [_title(state, now)]
    room -= 1
    if state.how["cached"] and room > 3:
        head.append(_collapsed(state.how["cached"], glyphs))
        room -= 1
    shown = running[: max(1, room - min(len(moving), room // 4))] if room > 0 else []
    room -= len(shown)
    transfers = moving[: max(0, room)]
    room -= len(transfers)
    hidden = len(running) - len(shown) + len(moving) - len(transfers)
    if hidden and room > 0:
        room -= 1
    steps = []
    for left, step in zip(range(len(shown), 0, -1), shown, strict=True):
        lines = step.lines(min(MOST_LINES, max(0, room) // left))
        room -= len(lines)
        steps += [_running(step, now, glyphs), *(_output(line, glyphs) for line in lines)]
    done = [step for step in state.steps.values() if step.how in ("ran", "failed")]
    past = [_done(step, glyphs) for step in done[max(0, len(done) - max(0, room)) :]]
    more = [Row((("  … and ", "dim"), (str(hidden), "dim"), (" more", "dim")))] if hidden else []
    rows = [*head, *past, *steps, *(_transfer(transfer, now, glyphs) for transfer in transfers), *more]
    return rows[: max(1, height)]


def summary_rows(state: State, height: int, glyphs: Glyphs, *, failed: bool) -> list[Row]:
    """How it ended: every step with its time and its layer's size; runs of cached ones in a row each if it is long.

    What still runs by then was stopped.
    """
    steps = sorted(state.steps.values(), key=lambda step: step.step)
    rows = [_done(step, glyphs) for step in steps]
    if len(rows) > height - 3:
        rows = _collapse(steps, glyphs)
    rows += _moved(state, glyphs)
    if state.built is not None and not failed:
        rows.append(Row(((count_line(state.how, state.built), "title"),)))
        rows.append(Row(((built_line(state.built), ""),)))
    return rows


def _title(state: State, now: float) -> Row:
    finished = state.how.total()
    counts = f"{finished}/{state.total} steps" if state.total else ""
    running = len(state.running())
    parts: list[Part] = [(_doing(state), "title")]
    if counts:
        parts += [("  " + counts, ""), (f", {running} running" if running else "", "")]
    return Row(tuple(parts), ((human_seconds(now - state.started), "title"),))


def _doing(state: State) -> str:
    if state.total or state.steps:
        return "Building"
    directions = {direction for direction, _ in state.transfers}
    return {"pull": "Pulling", "push": "Pushing"}[directions.pop()] if len(directions) == 1 else "Working"


def _collapsed(count: int, glyphs: Glyphs) -> Row:
    return Row(
        ((f"{glyphs.cached} ", "cached"), (f"{count} {'step' if count == 1 else 'steps'} cached", "dim"))
    )


def _collapse(steps: list[StepState], glyphs: Glyphs) -> list[Row]:
    rows: list[Row] = []
    count = 0
    for step in [*steps, None]:
        if step is not None and step.how == "cached":
            count += 1
            continue
        if count:
            rows.append(_collapsed(count, glyphs))
            count = 0
        if step is not None:
            rows.append(_done(step, glyphs))
    return rows


def _running(step: StepState, now: float, glyphs: Glyphs) -> Row:
    return Row(
        ((f"{glyphs.running} ", "running"), (_one_line(step.name), "running")),
        ((human_seconds(now - step.started), "running"),),
    )


def _output(line: str, glyphs: Glyphs) -> Row:
    return Row(((f"  {glyphs.bar} ", "dim"), (line, "dim")))


def _done(step: StepState, glyphs: Glyphs) -> Row:
    glyph = {"ran": glyphs.ran, "cached": glyphs.cached, "failed": glyphs.failed}.get(
        step.how, glyphs.running
    )
    when = {"cached": "cached", "running": "stopped"}.get(step.how) or human_seconds(step.seconds)
    size = "" if step.size is None else human_size(step.size)
    return Row(
        ((f"{glyph} ", step.how), (_one_line(step.name), "failed" if step.how == "failed" else "")),
        ((f"{when:>7}", "dim"), (f"{size:>8}", "")),
    )


def _transfer(transfer: TransferState, now: float, glyphs: Glyphs) -> Row:
    arrow = glyphs.pull if transfer.direction == "pull" else glyphs.push
    what = (
        transfer.what.removeprefix("sha256:")[:12] if transfer.what.startswith("sha256:") else transfer.what
    )
    left: list[Part] = [(f"{arrow} ", "running"), (_one_line(what), "")]
    rate = f"{human_size(transfer.rate(now))}/s"
    if not transfer.total:
        return Row(tuple(left), ((f"{human_size(transfer.done)}  {rate:>9}", ""),))
    filled = min(BAR, BAR * transfer.done // transfer.total)
    amount = f"{human_size(transfer.done):>6} of {human_size(transfer.total):>6}"
    return Row(
        tuple(left),
        (
            (glyphs.full * filled, "running"),
            (glyphs.empty * (BAR - filled), "dim"),
            (f" {amount} {rate:>9}", ""),
        ),
    )


def _moved(state: State, glyphs: Glyphs) -> list[Row]:
    """What was transferred, a row for each direction."""
    rows = []
    for direction, arrow, word in (("pull", glyphs.pull, "pulled"), ("push", glyphs.push, "pushed")):
        complete = [t for t in state.transfers.values() if t.direction == direction and t.complete]
        if complete:
            total = human_size(sum(transfer.done for transfer in complete))
            counted = f"{len(complete)} {'blob' if len(complete) == 1 else 'blobs'}"
            rows.append(Row(((f"{arrow} ", "ran"), (f"{word} {counted}", "")), ((f"{total:>15}", ""),)))
    return rows


def _one_line(text: str) -> str:
    from layersmith.cli.table import printable

    return printable(" ".join(text.split()))
