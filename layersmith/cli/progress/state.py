"""What a live view knows: steps and transfers as they stand. In: events. Out: `State`, read by `view`.

Taking an event costs the same however much a step writes: of its output only the end is kept.
"""

from __future__ import annotations

import re
import time
from collections import Counter, deque

from layersmith.dataclass import dataclass, field
from layersmith.progress import (
    Event,
    ImageBuilt,
    LayerPacked,
    Planned,
    StepFinished,
    StepOutput,
    StepStarted,
    Transfer,
)

TAIL = 4096
"""Bytes of a step's output that are kept."""

RATE_SAMPLES = 8
RATE_SECONDS = 0.4
"""A rate is over so many samples, at least so far apart: about the last three seconds."""

# Escape sequences, and whatever else moves the cursor; what remains of one that the tail's beginning cut goes, too.
_INVISIBLE = re.compile(
    "\x1b\\[[0-?]*[ -/]*[@-~]|\x1b[\\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\\\|$)|\x1b.?|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)


@dataclass(slots=True)
class StepState:
    """A step: ``how`` is ``running``, ``ran``, ``cached`` or ``failed``; ``size`` of its layer once it is packed."""

    step: int
    name: str
    how: str
    started: float
    seconds: float = 0.0
    size: int | None = None
    tail: bytes = b""

    def lines(self, most: int) -> list[str]:
        """The last lines of its output, as they would look on a terminal."""
        lines = [
            _INVISIBLE.sub("", line.rstrip("\r").rpartition("\r")[2]).expandtabs(8).rstrip()
            for line in self.tail.decode("utf-8", "replace").split("\n")
        ]
        return [line for line in lines if line][-most:] if most else []


@dataclass(slots=True)
class TransferState:
    """A blob or file on its way; `rate` in bytes a second."""

    direction: str
    what: str
    done: int
    total: int
    samples: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=RATE_SAMPLES))

    @property
    def complete(self) -> bool:
        return self.done == self.total

    def rate(self, now: float) -> float:
        when, done = self.samples[0]
        return max(0, self.done - done) / (now - when) if now - when > 0.2 else 0.0


class State:
    """All that there is to show. The caller locks: events come from any thread."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.total = 0
        self.steps: dict[int, StepState] = {}
        self.how: Counter[str] = Counter()
        self.transfers: dict[tuple[str, str], TransferState] = {}
        self.built: ImageBuilt | None = None

    def take(self, event: Event) -> None:
        now = time.monotonic()
        match event:
            case StepOutput(step, _, data):
                shown = self.steps.get(step)
                if shown is not None:
                    shown.tail = (shown.tail + data[-TAIL:])[-TAIL:]
            case Transfer(direction, what, done, total):
                self._transfer(direction, what, done, total, now)
            case Planned(steps):
                self.total = sum(planned.kind != "source" for planned in steps)
            case StepStarted(step, name):
                self.steps[step] = StepState(step, name, "running", now)
            case StepFinished(step, name, how, seconds):
                known = self.steps.setdefault(step, StepState(step, name, how, now))
                known.how, known.seconds = how, seconds
                self.how[how] += 1
            case LayerPacked(step, _, size, _):
                if step in self.steps:
                    self.steps[step].size = size
            case ImageBuilt():
                self.built = event
                for layer in event.layers:
                    if layer.step in self.steps:
                        self.steps[layer.step].size = layer.size

    def _transfer(self, direction: str, what: str, done: int, total: int, now: float) -> None:
        known = self.transfers.get((direction, what))
        if known is None:
            known = self.transfers[direction, what] = TransferState(direction, what, done, total)
            known.samples.append((now, 0 if done < total else done))
        known.done, known.total = done, total
        if now - known.samples[-1][0] > RATE_SECONDS:
            known.samples.append((now, done))

    def running(self) -> list[StepState]:
        return [step for step in self.steps.values() if step.how == "running"]

    def moving(self) -> list[TransferState]:
        return [transfer for transfer in self.transfers.values() if not transfer.complete]
