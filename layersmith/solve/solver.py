"""SOLVE: steps to layers. In: a `Plan`, the trees of its contexts, a store. Out: `Solved`, the final image's layers.

`scheduler` says when a step is done, `step` how, `keys` what makes its key, `merged` where files can be looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

from layersmith import ops
from layersmith.errors import Cancelled, located
from layersmith.execute.run import Runner, RunSettings
from layersmith.execute.tree import Tree
from layersmith.layer.compress import Compression
from layersmith.linux.spawner import Spawner
from layersmith.oci.descriptor import Layer
from layersmith.plan import Plan, Step
from layersmith.progress import Progress
from layersmith.solve.keys import recipe
from layersmith.solve.merged import Merged
from layersmith.solve.results import StackedLayer, StepResult
from layersmith.solve.scheduler import Stop, run_dag
from layersmith.solve.step import StepRun
from layersmith.store import Pending, Store


@dataclass(frozen=True, slots=True)
class Settings:
    """How to solve; nothing here but ``epoch`` and ``compression`` changes the result."""

    jobs: int = 8
    no_cache: bool = False
    keep_going: bool = False
    epoch: int | None = None
    """SOURCE_DATE_EPOCH: seconds; newer times in layers are lowered to it."""
    compression: Compression = field(default_factory=Compression)
    run: RunSettings = field(default_factory=RunSettings)


@dataclass(frozen=True, slots=True)
class Solved:
    """The layer of each step that made one, and when it was made (seconds since the epoch)."""

    layers: Mapping[int, Layer]
    created: Mapping[int, float]


class Solver:
    """Solves one plan. Use once, as a context manager; mounts and temporary files end with it."""

    def __init__(
        self,
        store: Store,
        plan: Plan,
        contexts: Mapping[ops.ContextInput, Tree],
        *,
        spawner: Spawner,
        settings: Settings,
        progress: Progress,
        fetch: Callable[..., object],
    ) -> None:
        self.store = store
        self.plan = plan
        self.contexts = contexts
        self.settings = settings
        self.progress = progress
        self.fetch = fetch
        self.stop = Stop()
        self.scratch = store.temporary("solve")
        self.runner = Runner(store, spawner, settings.run, progress, self.stop)
        self._exit = ExitStack()
        self._discard: list[Pending] = []

    def __enter__(self) -> Solver:
        self.merged = self._exit.enter_context(
            Merged(self.store, self.scratch / "merged", userxattr=self.settings.run.userxattr)
        )
        # Packs are queued in the order of the steps, and each waits only for those before it: two workers suffice
        # to keep both reading and compressing busy, and they can't wait for each other.
        self.packer = ThreadPoolExecutor(2, thread_name_prefix="pack")
        return self

    def __exit__(self, *_: object) -> None:
        self.packer.shutdown(wait=True, cancel_futures=self.stop.urgent)
        for pending in self._discard:
            self.store.snapshots.discard(pending)
        self._exit.close()

    def solve(self) -> Solved:
        """Do all steps. Raises the first failure, with its place, once everything that ran has stopped."""
        try:
            results = run_dag(
                [step.needs for step in self.plan.steps],
                self._step,
                jobs=self.settings.jobs,
                keep_going=self.settings.keep_going,
                on_failure=self.stop.set,
            )
            layers, created = {}, {}
            for index, step in enumerate(self.plan.steps):
                if step.parent is not None:
                    result = results[index]
                    layers[index] = result.stack[-1].packed.result()
                    created[index] = result.created[-1]
        except (KeyboardInterrupt, Cancelled):
            self.stop.set(urgent=True)
            raise
        return Solved(layers, created)

    def _step(self, index: int, results: dict[int, StepResult]) -> StepResult:
        if self.stop:
            raise Cancelled("the build was stopped")
        step = self.plan.steps[index]
        if isinstance(step.op, ops.SourceOp):
            layers = self.plan.images[index].layers
            stack = tuple(StackedLayer.of(layer) for layer in layers)
            return StepResult(stack, recipe(step.op, "", (), None), (0.0,) * len(stack))
        with located(step.span):
            return StepRun(self, index, step, results).result()

    def no_cache(self, step: Step) -> bool:
        """Whether ``step`` is to run whatever the cache has."""
        return self.settings.no_cache or step.no_cache

    def discard_later(self, pending: Pending) -> None:
        """Remove an upper directory once no step can be standing on it any more: at the end."""
        self._discard.append(pending)
