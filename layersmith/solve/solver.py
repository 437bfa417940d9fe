"""SOLVE: steps to layers. In: a `Plan`, the trees of its contexts, a store. Out: `Solved`, the final image's layers.

First, in this one thread, what the cache knows; only if something is left, an `Executor` is made and the rest done side
by side. `scheduler` says when a step is done, `step` what the cache has for it, `perform` how it is done, `keys` what
makes its key.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from layersmith import ops
from layersmith.dataclass import dataclass
from layersmith.errors import Cancelled, located
from layersmith.solve.keys import recipe
from layersmith.solve.recorder import Recorder
from layersmith.solve.results import StackedLayer, StepResult
from layersmith.solve.scheduler import Stop, run_dag
from layersmith.solve.step import StepState
from layersmith.store.build_record import Build

if TYPE_CHECKING:
    from pathlib import Path

    from layersmith.execute.settings import RunSettings
    from layersmith.execute.tree import Tree
    from layersmith.layer.compress import Compression
    from layersmith.linux.spawner import Spawner
    from layersmith.linux.userns import Isolation
    from layersmith.oci.descriptor import Layer
    from layersmith.plan import Plan, Step
    from layersmith.progress import Progress
    from layersmith.solve.executor import Executor
    from layersmith.store import Store

FRESH = 1.0
"""Seconds for which a digest of a context's files is used: no longer than reading all of it may take anyway."""

Isolate = Callable[[], "tuple[Isolation, Spawner]"]
"""Isolates the process and forks its spawner; called in the main thread, before any other, and only if needed."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to solve; nothing here but ``epoch`` and ``compression`` changes the result."""

    run: RunSettings
    compression: Compression
    jobs: int = 8
    no_cache: bool = False
    keep_going: bool = False
    epoch: int | None = None
    """SOURCE_DATE_EPOCH: seconds; newer times in layers are lowered to it."""


@dataclass(frozen=True, slots=True)
class Solved:
    """The layer of each step that made one, and when it was made (seconds since the epoch)."""

    layers: Mapping[int, Layer]
    created: Mapping[int, float]


class Solver:
    """Solves one plan, once."""

    def __init__(
        self,
        store: Store,
        plan: Plan,
        contexts: Mapping[ops.ContextInput, Tree],
        *,
        isolate: Isolate,
        settings: Settings,
        progress: Progress,
        fetch: Callable[..., object],
        recorder: Recorder | None = None,
    ) -> None:
        self.store = store
        self.plan = plan
        self.contexts = contexts
        self.isolate = isolate
        self.settings = settings
        self.recorder = recorder or Recorder(store, progress, Build("", 0.0))
        self.progress = progress
        self.fetch = fetch
        self.stop = Stop()
        self._missed: dict[int, tuple[float, StepState]] = {}
        """What the first look at the cache came to for steps that it had not, and when."""

    @cached_property
    def scratch(self) -> Path:
        """A directory for what is unfinished; a build that is all cached has no use for one."""
        return self.store.temporary("solve")

    def solve(self) -> Solved:
        """Do all steps. Raises the first failure, with its place, once everything that ran has stopped."""
        results = self.known()
        if len(results) == len(self.plan.steps):
            return self._solved(results)
        with self._executor() as executor:
            try:
                results = run_dag(
                    [step.needs for step in self.plan.steps],
                    lambda index, done: self._step(index, done, executor),
                    done=results,
                    jobs=self.settings.jobs,
                    keep_going=self.settings.keep_going,
                    on_failure=self.stop.set,
                    on_interrupt=self._interrupted,
                )
                return self._solved(results)
            except (KeyboardInterrupt, Cancelled):
                self._interrupted()
                raise

    def _interrupted(self) -> None:
        self.stop.set(urgent=True)

    def known(self, ask: Callable[[int], bool] = lambda _: True) -> dict[int, StepResult]:
        """The results of the steps that the cache has, as far as that can be told without doing anything.

        Those are left out for which ``ask`` (given the step's index) says so.
        """
        results: dict[int, StepResult] = {}
        for index, step in enumerate(self.plan.steps):
            if isinstance(step.op, ops.SourceOp):
                stack = tuple(StackedLayer.of(layer) for layer in self.plan.images[index].layers)
                results[index] = StepResult(stack, recipe(step.op, "", (), None))
            elif all(need in results for need in step.needs) and ask(index):
                state = StepState(self, index, results)
                with located(step.span):
                    found = state.cached()
                if found is not None:
                    results[index] = found
                else:
                    self._missed[index] = time.monotonic(), state
        return results

    def _executor(self) -> Executor:
        from layersmith.solve.executor import Executor

        isolation, spawner = self.isolate()
        return Executor(
            self.store, spawner, isolation, self.settings.run, self.progress, self.stop, self.scratch
        )

    def _step(self, index: int, results: dict[int, StepResult], executor: Executor) -> StepResult:
        from layersmith.solve.perform import perform

        if self.stop:
            raise Cancelled("the build was stopped")
        state = StepState(self, index, results, executor.merged)
        looked = self._missed.pop(index, None)
        if looked is not None and time.monotonic() - looked[0] < FRESH:
            state.adopt(looked[1])
        with located(self.plan.steps[index].span):
            return perform(state, executor)

    def _solved(self, results: Mapping[int, StepResult]) -> Solved:
        """Waits until every layer is packed."""
        made = [index for index, step in enumerate(self.plan.steps) if step.parent is not None]
        found = {index: results[index].stack[-1].packed.result() for index in made}
        return Solved(
            {index: one.layer for index, one in found.items()},
            {index: one.created for index, one in found.items()},
        )

    def no_cache(self, step: Step) -> bool:
        """Whether ``step`` is to run whatever the cache has."""
        return self.settings.no_cache or step.no_cache

    def flag(self, step: Step) -> str:
        """What says so, as a person writes it; empty if nothing does."""
        if self.settings.no_cache:
            return "--no-cache"
        if isinstance(step.op, ops.ExecOp) and step.op.no_cache:
            return "RUN --no-cache"
        return "--no-cache-filter" if step.no_cache else ""
