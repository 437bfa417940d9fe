"""When each step of a build ran, on which worker. In: a `Build`. Out: bars, the critical path, and both as SVG."""

from __future__ import annotations

from layersmith.cli.pages.html import Markup, element, join
from layersmith.cli.units import human_seconds, human_size
from layersmith.dataclass import dataclass
from layersmith.store.build_record import Build, BuildStep, Moved

WIDTH, LEFT, LANE, TOP = 1140, 84, 26, 22
MOVED = {"pull": "pulled", "unpack": "unpacked", "push": "pushed"}
LONGEST_PAUSE = 1.0
"""Seconds between the build's end and a transfer that are drawn; more are skipped."""
LEAST = 2.0
"""Width in pixels of a bar that would be too thin to see."""


@dataclass(frozen=True, slots=True)
class Bar:
    """What was done, from ``start`` to ``end`` in seconds since the build began; ``lane`` as `lanes` names it.

    ``step`` is None for what was pulled, unpacked or pushed.
    """

    step: BuildStep | None
    name: str
    lane: str
    kind: str
    start: float
    end: float


def bars(build: Build) -> list[Bar]:
    """What ran, hit, was packed, pulled, unpacked and pushed, by time.

    Packing has lanes of its own, for it goes on while other steps run; so have transfers.
    """
    found = []
    taken: dict[str, list[float]] = {}
    for step in sorted(build.steps, key=lambda step: step.pack_started or 0):
        if step.pack_started is not None and step.pack_finished is not None:
            lane = _free(taken.setdefault("pack", []), step.pack_started, step.pack_finished)
            found.append(_bar(build, step, f"pack {lane}", "packed", step.pack_started, step.pack_finished))
    for move, start, end in _moves(build):
        lane = _free(taken.setdefault(move.direction, []), start, end)
        name = f"{move.what} ({human_size(move.size)})"
        found.append(Bar(None, name, f"{move.direction} {lane}", MOVED[move.direction], start, end))
    for step in build.steps:
        if step.started is None or step.finished is None:
            continue
        if step.outcome == "hit":
            found.append(_bar(build, step, "cache", "hit", step.started, step.finished))
        elif step.outcome in ("ran", "failed", "cancelled"):
            lane_name = f"worker {(step.worker or 0) + 1}"
            found.append(_bar(build, step, lane_name, step.outcome, step.started, step.finished))
    return sorted(found, key=lambda bar: (bar.start, bar.step.number if bar.step else -1))


def _moves(build: Build) -> list[tuple[Moved, float, float]]:
    """Each with its start and end in seconds since the build began; a ``push`` hours later as if it had followed at once."""
    found = []
    skipped = 0.0
    last = (build.finished or build.started) - build.started
    for move in sorted(build.moved, key=lambda move: move.started):
        idle = move.started - build.started - skipped - last
        if idle > LONGEST_PAUSE:
            skipped += idle
        start, end = (max(0.0, at - build.started - skipped) for at in (move.started, move.finished))
        last = max(last, end)
        found.append((move, start, end))
    return found


def _free(taken: list[float], start: float, end: float) -> int:
    """The first lane, counted from 1, that nothing is in at ``start``; ``taken`` is until when each is."""
    lane = next((n for n, until in enumerate(taken) if until <= start), len(taken))
    taken[lane : lane + 1] = [end]
    return lane + 1


def _bar(build: Build, step: BuildStep, lane: str, kind: str, start: float, end: float) -> Bar:
    return Bar(
        step,
        f"#{step.number} {step.name}",
        lane,
        kind,
        max(0.0, start - build.started),
        max(0.0, end - build.started),
    )


def lanes(found: list[Bar]) -> list[str]:
    """The pulls', the unpackers', the cache's, the workers', the packers', the pushes'."""
    order = {"pull": 0, "unpack": 1, "cache": 2, "worker": 3, "pack": 4, "push": 5}
    return sorted({bar.lane for bar in found}, key=lambda lane: (order[lane.split()[0]], len(lane), lane))


def critical_path(build: Build) -> tuple[BuildStep, ...]:
    """The steps that the build's end waited for: from the last to end, always the need that ended last."""
    by_number = {step.number: step for step in build.steps}
    ended = [step for step in build.steps if step.finished is not None and step.outcome != "base"]
    path = []
    here = max(ended, key=lambda step: step.finished or 0.0, default=None)
    while here is not None:
        path.append(here)
        needs = [by_number[number] for number in here.needs if number in by_number]
        needs = [step for step in needs if step.finished is not None and step.outcome != "base"]
        here = max(needs, key=lambda step: step.finished or 0.0, default=None)
    return tuple(reversed(path))


def duration(build: Build) -> float:
    """Seconds from the build's beginning to its end, or to the last thing known of it."""
    ends = [
        build.finished,
        *(build.started + end for _, _, end in _moves(build)),
        *(step.finished for step in build.steps),
        *(step.pack_finished for step in build.steps),
    ]
    return max(max((end for end in ends if end is not None), default=build.started) - build.started, 0.001)


def drawn(build: Build) -> Markup:
    """The timeline; each bar is a link to its step."""
    found = bars(build)
    names = lanes(found)
    whole = duration(build)
    critical = {step.number for step in critical_path(build)}
    scale = (WIDTH - LEFT - 10) / whole
    height = TOP + LANE * len(names) + 6
    parts = []
    for tick in range(6):
        x = LEFT + (WIDTH - LEFT - 10) * tick / 5
        parts.append(element("line", x1=x, x2=x, y1=TOP - 4, y2=height))
        anchor = "end" if tick == 5 else "middle"
        parts.append(
            element("text", human_seconds(whole * tick / 5), x=x, y=14, text_anchor=anchor, class_="soft")
        )
    for number, name in enumerate(names):
        parts.append(element("text", name, x=8, y=TOP + LANE * number + 17))
    for bar in found:
        title = f"{bar.name}: {bar.kind}, {human_seconds(bar.end - bar.start)}"
        step = bar.step.number if bar.step else None
        outlined = step in critical and _outlined(bar, scale)
        rect = element(
            "rect",
            x=LEFT + bar.start * scale,
            y=TOP + LANE * names.index(bar.lane) + 3,
            width=max(LEAST, (bar.end - bar.start) * scale),
            height=LANE - 8,
            class_=bar.kind + (" critical" if outlined else ""),
            data_step=step,
            data_start=bar.start,
            data_end=bar.end,
        )
        label = element("title", title)
        place = "#timeline" if step is None else f"#step-{step}"
        parts.append(element("a", label, rect, href=place, aria_label=title))
    svg = element(
        "svg", *parts, width=WIDTH, height=height, role="group", aria_label="timeline", data_scale=scale
    )
    return element("div", svg, class_="scroll", id="timeline")


def _outlined(bar: Bar, scale: float) -> bool:
    """Whether there is room for an outline that leaves the colour to be seen."""
    return bar.kind != "packed" and (bar.end - bar.start) * scale > 3 * LEAST


def key() -> Markup:
    """What the colours mean."""
    words = ("hit", "ran", "packed", "pulled", "unpacked", "pushed", "failed")
    return element(
        "p",
        join(*(element("span", word, class_=word) for word in words)),
        "Outlined: the critical path. Arrow keys go from bar to bar.",
        class_="key soft",
    )
