"""SOLVE: what a step gives the steps above it. In: nothing. Out: `StepResult`, a stack of layers that may be on the way.

A step's upper directory is a lowerdir the moment its command has ended, while its layer is still being packed;
so a stack holds futures of layers, and for some of them the directory that is already there.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from layersmith.oci.descriptor import Layer
from layersmith.oci.digest import ChainID, chain_id

NO_FILES = ChainID("scratch")
"""Stands for the ChainID of an empty stack, which image-spec does not define."""


@dataclass(frozen=True, slots=True, eq=False)
class StackedLayer:
    """One layer of a stack: ``packed`` is done once its blob is in the store.

    ``directory`` is the step's own upper directory, or None where the layer's snapshot is made on demand.
    """

    packed: Future[Layer]
    directory: Path | None = None

    @classmethod
    def of(cls, layer: Layer) -> StackedLayer:
        """A layer that is in the store."""
        future: Future[Layer] = Future()
        future.set_result(layer)
        return cls(future)


@dataclass(frozen=True, slots=True, eq=False)
class StepResult:
    """The files that a step leaves: its stack, lowest first, and the ``recipe`` that made it.

    ``recipe`` names the work (ops and inputs), not its outcome; two builds that want the same work agree on it.
    """

    stack: tuple[StackedLayer, ...]
    recipe: str
    created: tuple[float, ...] = ()
    """When each layer of the stack was made, in seconds since the epoch; for those of the base image, 0."""

    def layers(self) -> tuple[Layer, ...]:
        """The layers, lowest first; waits until all are packed and raises what went wrong with any."""
        return tuple(stacked.packed.result() for stacked in self.stack)

    def chain(self) -> ChainID:
        """The ChainID of the files (`NO_FILES` for no layers); waits as `layers` does."""
        diff_ids = [layer.diff_id for layer in self.layers()]
        return chain_id(diff_ids) if diff_ids else NO_FILES
