"""What a build tells while it goes on: events, and the `Progress` that receives them.

The library only emits; the command line decides what a person sees. Events may come from any thread.
"""

from __future__ import annotations

from typing import Protocol

from layersmith.dataclass import dataclass, field


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A step of the plan: its index, and as progress shows it; ``kind`` is ``source``, ``exec``, ``copy``, ``mkdir`` ….

    ``needs`` are the steps before it; ``file`` and ``line`` (from 1; 0: unknown) say where it is written.
    """

    step: int
    name: str
    kind: str
    stage: str = ""
    needs: tuple[int, ...] = ()
    file: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class Planned:
    """What will be done, for all platforms together."""

    steps: tuple[PlannedStep, ...]


@dataclass(frozen=True, slots=True)
class StepStarted:
    """Step ``step`` begins to execute (it was not in the cache)."""

    step: int
    name: str


@dataclass(frozen=True, slots=True)
class StepExplained:
    """Why step ``step`` runs: a line for each cause; ``against`` (``BUILD/STEP``) is the earlier step compared with."""

    step: int
    causes: tuple[str, ...]
    against: str


@dataclass(frozen=True, slots=True)
class StepOutput:
    """Bytes that a step's command wrote; ``stream`` is 1 or 2. Lines are not split or joined."""

    step: int
    stream: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class StepFinished:
    """Step ``step`` is done: ``how`` is ``ran``, ``cached`` or ``failed``; ``seconds`` of wall time."""

    step: int
    name: str
    how: str
    seconds: float


@dataclass(frozen=True, slots=True)
class LayerPacked:
    """The layer of ``step`` is in the store: compressed size in bytes, and wall time of packing it."""

    step: int
    digest: str
    size: int
    seconds: float


@dataclass(frozen=True, slots=True)
class LayerUnpacked:
    """A layer's files lie in the store now, for steps to stand on: its compressed size in bytes, and wall time."""

    digest: str
    size: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Transfer:
    """``done`` of ``total`` bytes (0: unknown) of ``what`` are through; ``direction`` is ``pull`` or ``push``."""

    direction: str
    what: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class BuiltLayer:
    """A layer of the image, lowest first: the step that it is from (None: the base image's), compressed size in bytes."""

    step: int | None
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class ImageBuilt:
    """The image is in the store: its digest, the names that it got, its layers (each once), wall time in seconds."""

    digest: str
    names: tuple[str, ...]
    layers: tuple[BuiltLayer, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a person should know; ``level`` is ``info`` or ``warning``."""

    level: str
    text: str


Event = (
    Planned
    | StepStarted
    | StepExplained
    | StepOutput
    | StepFinished
    | LayerPacked
    | LayerUnpacked
    | Transfer
    | ImageBuilt
    | Notice
)


class Progress(Protocol):
    """Receives events; must be quick and thread-safe."""

    def emit(self, event: Event) -> None: ...


class NullProgress:
    """The Progress that says nothing."""

    def emit(self, event: Event) -> None:
        pass
