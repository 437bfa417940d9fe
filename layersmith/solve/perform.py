"""SOLVE: doing a step. In: a `StepState` that the cache had nothing for. Out: its `StepResult`.

execute -> diff -> layer -> commit -> record; for RUN the last four happen in the packer while the next steps run.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack

from layersmith import ops
from layersmith.errors import Cancelled, CommandError, located
from layersmith.execute.copy import copy_items
from layersmith.execute.mkdir import mkdir_items
from layersmith.layer.changes import changes
from layersmith.layer.entry import Item
from layersmith.layer.pack import pack
from layersmith.layer.unpack import merged_root, prepare_upper
from layersmith.layer.view import View
from layersmith.oci.descriptor import Layer
from layersmith.progress import LayerPacked, StepStarted
from layersmith.solve.executor import Executor
from layersmith.solve.results import StackedLayer, StepResult
from layersmith.solve.step import StepState
from layersmith.store import Pending, Record


def perform(state: StepState, executor: Executor) -> StepResult:
    """The step's files, by doing its work, or from another build that was doing it. Errors get no place here."""
    try:
        return _Performance(state, executor).result()
    except Cancelled:
        raise
    except BaseException:
        state.finished("failed")
        raise


class _Performance:
    """A step being done, in a worker thread of its own."""

    def __init__(self, state: StepState, executor: Executor) -> None:
        self.state = state
        self.op = state.op
        self.store = state.store
        self.executor = executor
        self.progress = state.solver.progress
        self.claim = ExitStack()

    def result(self) -> StepResult:
        state = self.state
        try:
            if not state.solver.no_cache(state.step):
                # Whoever holds this lock is doing the same work: wait, and take the result.
                self.claim.enter_context(self.store.lock(f"step-{state.recipe.rpartition(':')[2]}"))
                found = state.cached()
                if found is not None:
                    self.claim.close()
                    return found
            self.progress.emit(StepStarted(state.index, state.step.name))
            return self.execute()
        except BaseException:
            self.claim.close()
            raise

    def execute(self) -> StepResult:
        now = time.time() if self.state.epoch is None else float(self.state.epoch)
        if isinstance(self.op, ops.ExecOp):
            pending = self.command(self.op)
            self.state.finished("ran")
            packed = self.executor.pack(lambda: self.pack_upper(pending, now))
            return self.state.on_top(StackedLayer(packed, pending.path), now)
        with self.state.view() as view:
            layer = self.pack(self.items(view, int(now)))
        self.record(layer, now)
        self.state.finished("ran")
        return self.state.on_top(StackedLayer.of(layer), now)

    def items(self, view: View, now: int) -> Iterator[Item]:
        match self.op:
            case ops.CopyOp():
                return copy_items(
                    self.op,
                    self.state.trees,
                    self.state.remote,
                    view,
                    now=now,
                    warn=self.state.warn,
                    scratch=self.state.solver.scratch,
                )
            case ops.MkdirOp():
                return mkdir_items(self.op, view, now=now)
            case _:
                raise AssertionError(f"{self.op} makes no items")

    def command(self, op: ops.ExecOp) -> Pending:
        """Run the step's command, again where ``--retry`` allows; the upper directory that it left."""
        stack = self.state.parent.stack
        lowers = self.executor.merged.lowerdirs(stack)
        root = merged_root(self.store, [stacked.directory or stacked.packed.result() for stacked in stack])
        for attempt in range(op.retry + 1):
            pending = self.store.snapshots.create()
            try:
                prepare_upper(pending.path, root)
                self.executor.runner.run(self.state.index, op, lowers, pending, self.state.trees)
            except CommandError as error:
                self.store.snapshots.discard(pending)
                if attempt == op.retry or self.executor.stop:
                    raise
                self.state.warn(f"{error.message}; trying again ({attempt + 1} of {op.retry})")
            except BaseException:
                self.store.snapshots.discard(pending)
                raise
            else:
                return pending
        raise AssertionError("a loop over at least one attempt returns or raises")

    # Layer, commit, record

    def pack_upper(self, pending: Pending, now: float) -> Layer:
        """In a packer thread: diff -> layer -> commit -> record."""
        try:
            with located(self.state.step.span), self.state.view() as lower:
                namespace = self.executor.merged.xattr_namespace
                layer = self.pack(changes(pending.path, lower=lower, xattr_namespace=namespace))
            if self.store.snapshots.commit(pending, layer.diff_id) != pending.path:
                self.executor.discard_later(pending)
            self.record(layer, now)
            return layer
        except BaseException:
            self.executor.discard_later(pending)
            self.claim.close()
            raise

    def pack(self, items: Iterable[Item]) -> Layer:
        started = time.monotonic()
        settings = self.state.solver.settings
        packed = pack(
            self.store, self.while_wanted(items), compression=settings.compression, epoch=self.state.epoch
        )
        layer = packed.layer
        seconds = time.monotonic() - started
        self.progress.emit(
            LayerPacked(self.state.index, layer.descriptor.digest, layer.descriptor.size, seconds)
        )
        return layer

    def while_wanted(self, items: Iterable[Item]) -> Iterator[Item]:
        for item in items:
            if self.executor.stop.urgent:
                raise Cancelled("the build was stopped")
            yield item

    def record(self, layer: Layer, now: float) -> None:
        """Note what the work came to, then let those who wait for the same work go on."""
        for parts in (
            {self.state.exact_key, self.state.content_key}
            if self.state.content_known
            else {self.state.exact_key}
        ):
            self.store.cache.put(
                parts.key(),
                Record(layer, parts.describe(), step=ops.digest(self.op), created=now),
            )
        self.claim.close()
