"""SOLVE: what a step gives the steps above it. In: nothing. Out: `StepResult`, a stack of layers that may be on the way.

A step's upper directory is a lowerdir the moment its command has ended, while its layer is still being packed;
so a stack holds futures of layers, and for some of them the directory that is already there.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from pathlib import Path

from layersmith.dataclass import dataclass
from layersmith.oci.descriptor import Layer
from layersmith.oci.digest import ChainID, chain_id

NO_FILES = ChainID("scratch")
"""Stands for the ChainID of an empty stack, which image-spec does not define."""


@dataclass(frozen=True, slots=True)
class Made:
    """A layer in the store, and when it was made, in seconds since the epoch (a base image's: 0)."""

    layer: Layer
    created: float = 0.0


class Upper:
    """A step's own upper directory: a lowerdir of the steps above, unless an earlier layer takes its layer's place.

    Only one of the two can happen, whichever comes first: what a step sees is what is in the image.
    """

    def __init__(self, path: Path) -> None:
        self._path: Path | None = path
        self._mutex = threading.Lock()
        self._used = False

    def use(self) -> Path | None:
        """The directory, which then stays what its layer is made of; None if another layer has taken its place."""
        with self._mutex:
            self._used = self._path is not None
            return self._path

    def give_way(self) -> bool:
        """Let another layer take its place, unless a step stands on it already."""
        with self._mutex:
            if not self._used:
                self._path = None
            return not self._used


@dataclass(frozen=True, slots=True, eq=False)
class StackedLayer:
    """One layer of a stack: ``packed`` is done once its blob is in the store.

    ``upper`` is the step's own directory, or None where the layer's snapshot is made on demand.
    """

    packed: Future[Made]
    upper: Upper | None = None

    @classmethod
    def of(cls, layer: Layer, created: float = 0.0) -> StackedLayer:
        """A layer that is in the store."""
        future: Future[Made] = Future()
        future.set_result(Made(layer, created))
        return cls(future)

    def layer(self) -> Layer:
        """The layer; waits until it is packed and raises what went wrong with it."""
        return self.packed.result().layer


@dataclass(frozen=True, slots=True, eq=False)
class StepResult:
    """The files that a step leaves: its stack, lowest first, and the ``recipe`` that made it.

    ``recipe`` names the work (ops and inputs), not its outcome; two builds that want the same work agree on it.
    """

    stack: tuple[StackedLayer, ...]
    recipe: str

    def layers(self) -> tuple[Layer, ...]:
        """The layers, lowest first; waits until all are packed and raises what went wrong with any."""
        return tuple(stacked.layer() for stacked in self.stack)

    def chain(self) -> ChainID:
        """The ChainID of the files (`NO_FILES` for no layers); waits as `layers` does."""
        diff_ids = [layer.diff_id for layer in self.layers()]
        return chain_id(diff_ids) if diff_ids else NO_FILES
