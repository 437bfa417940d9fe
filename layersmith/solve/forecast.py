"""SOLVE: what a build would do, with nothing done. In: a `Solver`. Out: a `Forecast` for each step of its plan.

What lies below a step that runs is not known yet, so neither is its key: such a step is `OPEN` where the cache holds
something of the same operation, which it hits if the files turn out as they were, and `RUNS` where it holds nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from layersmith import ops
from layersmith.dataclass import dataclass

if TYPE_CHECKING:
    from collections.abc import Container

    from layersmith.oci.descriptor import Layer
    from layersmith.plan import Step
    from layersmith.solve.solver import Solver

STORED = "stored"
"""A base image, all of it in the store."""
PULLED = "pulled"
"""A base image of which layers are missing in the store."""
CACHED = "cached"
RUNS = "runs"
OPEN = "open"


@dataclass(frozen=True, slots=True)
class Forecast:
    """What becomes of a step: ``state`` is one of the module's words; ``missing`` are the layers to pull."""

    state: str
    missing: tuple[Layer, ...] = ()


def forecast(solver: Solver) -> tuple[Forecast, ...]:
    """What `Solver.solve` would do with each step. Reads the contexts and the cache; asks no network, writes nothing."""
    return Forecaster(solver).steps()


class Forecaster:
    """The state of one forecast: for each step, whether layers at its bottom are still to be pulled."""

    def __init__(self, solver: Solver) -> None:
        self._solver = solver
        self._plan = solver.plan
        self._missing = {
            index: tuple(
                layer for layer in image.layers if not solver.store.blobs.has(layer.descriptor.digest)
            )
            for index, image in solver.plan.images.items()
        }

    def steps(self) -> tuple[Forecast, ...]:
        """See `forecast`."""
        known = self._solver.known(self._can_be_asked)
        found: list[Forecast] = []
        for index, step in enumerate(self._plan.steps):
            if isinstance(step.op, ops.SourceOp):
                missing = self._missing[index]
                found.append(Forecast(PULLED if missing else STORED, missing))
            elif index in known:
                found.append(Forecast(CACHED))
            else:
                found.append(Forecast(OPEN if self._may_hit(step, known) else RUNS))
        return tuple(found)

    def _may_hit(self, step: Step, known: Container[int]) -> bool:
        """Whether the cache could still have a step that it does not have by what is known now."""
        if self._solver.no_cache(step) or self._solver.store.cache.nearest(ops.digest(step.op)) is None:
            return False
        return bool(step.inputs) or not all(need in known for need in step.needs) or _remote(step.op)

    def _can_be_asked(self, index: int) -> bool:
        """Not where the key itself needs a download."""
        return not _remote(self._plan.steps[index].op)


def _remote(op: ops.Op) -> bool:
    return isinstance(op, ops.CopyOp) and any(
        isinstance(source, ops.HttpSource | ops.GitSource) for source in op.sources
    )
