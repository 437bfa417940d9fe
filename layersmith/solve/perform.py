"""SOLVE: doing a step. In: a `StepState` that the cache had nothing for. Out: its `StepResult`.

execute -> diff -> layer -> commit -> record; for RUN the last four happen in the packer while the next steps run.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress

from layersmith import ops
from layersmith.dataclass import dataclass
from layersmith.errors import (
    CacheSourceError,
    Cancelled,
    CommandError,
    SandboxError,
    StoreError,
    TransportError,
    located,
)
from layersmith.execute.copy import copy_items
from layersmith.execute.mkdir import mkdir_items
from layersmith.layer.changes import changes
from layersmith.layer.compare import same_content
from layersmith.layer.entry import Item
from layersmith.layer.pack import pack
from layersmith.layer.unpack import merged_root, prepare_upper
from layersmith.layer.view import View
from layersmith.linux.binfmt import require
from layersmith.oci.descriptor import Layer
from layersmith.progress import LayerPacked, Notice, StepStarted
from layersmith.solve.executor import Executor
from layersmith.solve.failed import keep_failed
from layersmith.solve.results import Made, StackedLayer, StepResult, Upper
from layersmith.solve.step import StepState
from layersmith.store import Pending, Record

EARLIER = 3
"""With how many earlier runs of an operation a layer is compared."""


@dataclass(frozen=True, slots=True)
class _Packing:
    """A layer just packed: its tar's length in bytes, and when (seconds since the epoch)."""

    layer: Layer
    size: int
    started: float
    finished: float


def perform(state: StepState, executor: Executor) -> StepResult:
    """The step's files, by doing its work, or from another build that was doing it. Errors get no place here."""
    try:
        return _Performance(state, executor).result()
    except BaseException as error:
        state.solver.recorder.failed(state, error)
        if not isinstance(error, Cancelled | CacheSourceError):
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
            state.solver.recorder.missed(state)
            return self.execute()
        except BaseException:
            self.claim.close()
            raise

    def execute(self) -> StepResult:
        now = time.time() if self.state.epoch is None else float(self.state.epoch)
        if isinstance(self.op, ops.ExecOp):
            pending = self.command(self.op)
            self.state.finished("ran")
            upper = Upper(pending.path)
            packed = self.executor.pack(lambda: self.pack_upper(pending, upper, now))
            return self.state.on_top(StackedLayer(packed, upper))
        with self.state.view() as view:
            packing = self.pack(self.items(view, int(now)))
        made = self.record(packing, now, self.earlier(packing.layer))
        self.state.finished("ran")
        return self.state.on_top(StackedLayer.of(made.layer, made.created))

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
        self.executor.runner.expect(op)
        stack = self.state.parent.stack
        lowers = self.executor.merged.lowerdirs(stack)
        uppers = (stacked.upper.use() if stacked.upper else None for stacked in stack)
        root = merged_root(self.store, [up or one.layer() for up, one in zip(uppers, stack, strict=True)])
        for attempt in range(op.retry + 1):
            pending = self.store.snapshots.create()
            try:
                prepare_upper(pending.path, root)
                self.executor.runner.run(self.state.index, op, lowers, pending, self.state.trees)
            except CommandError as error:
                last = attempt == op.retry or bool(self.executor.stop)
                if last and not self.executor.stop.urgent:
                    self.keep(pending, error)
                self.store.snapshots.discard(pending)
                if error.status in (126, 127):
                    self.require_emulators()
                if last:
                    raise
                self.state.warn(f"{error.message}; trying again ({attempt + 1} of {op.retry})")
            except BaseException:
                self.store.snapshots.discard(pending)
                raise
            else:
                return pending
        raise AssertionError("a loop over at least one attempt returns or raises")

    def keep(self, pending: Pending, error: CommandError) -> None:
        """Keep what the failed command left. On a full disk nothing is kept, and the command's own error is what counts."""
        with suppress(StoreError):
            error.kept = f"{keep_failed(self.state, pending)}/{self.state.index}"
            build = error.kept.partition("/")[0]
            text = f"`layersmith debug {build}` opens a shell in what step {self.state.index} left"
            self.progress.emit(Notice("info", text))

    def require_emulators(self) -> None:
        """Where a program could not be executed: say so, if it is for a machine that this one can't be.

        Asked afterwards, for what an image says of its architecture need not be true of its programs.
        """
        plan = self.state.solver.plan
        step = self.state.step
        platforms = {step.platform}
        while step.parent is not None:
            if step.parent in plan.images:
                platforms.add(plan.images[step.parent].config.platform)
            step = plan.steps[step.parent]
        for platform in platforms - {None}:
            assert platform is not None
            try:
                require(platform.architecture)
            except SandboxError as error:
                error.message = f"RUN for {platform} can't be done on this machine: {error.message}"
                raise

    # Layer, commit, record

    def pack_upper(self, pending: Pending, upper: Upper, now: float) -> Made:
        """In a packer thread: diff -> layer -> commit -> record."""
        try:
            with located(self.state.step.span), self.state.view() as lower:
                namespace = self.executor.merged.xattr_namespace
                packing = self.pack(changes(pending.path, lower=lower, xattr_namespace=namespace))
            earlier = self.earlier(packing.layer)
            if earlier is not None and upper.give_way():
                self.executor.discard_later(pending)
                return self.record(packing, now, earlier)
            if self.store.snapshots.commit(pending, packing.layer.diff_id) != pending.path:
                self.executor.discard_later(pending)
            return self.record(packing, now)
        except BaseException:
            self.executor.discard_later(pending)
            self.claim.close()
            raise

    def pack(self, items: Iterable[Item]) -> _Packing:
        started, clock = time.time(), time.monotonic()
        settings = self.state.solver.settings
        packed = pack(
            self.store, self.while_wanted(items), compression=settings.compression, epoch=self.state.epoch
        )
        layer = packed.layer
        seconds = time.monotonic() - clock
        self.progress.emit(
            LayerPacked(self.state.index, layer.descriptor.digest, layer.descriptor.size, seconds)
        )
        return _Packing(layer, packed.size, started, started + seconds)

    def earlier(self, layer: Layer) -> Made | None:
        """The layer of an earlier run of the same operation, if that made the same content, times aside.

        Taking it keeps everything above it in the cache. Not with SOURCE_DATE_EPOCH: what that promises is that every
        machine makes the same bytes, whatever its cache has.
        """
        if self.state.epoch is not None:
            return None
        for record in self.store.cache.latest(ops.digest(self.op), EARLIER):
            copied_same = self.copied_same(record)
            if record.layer is None or record.inputs.get("epoch") is not None or copied_same is False:
                continue
            # A damaged blob is for whoever needs it to find.
            with suppress(StoreError, TransportError):
                if self.store.blobs.has(record.layer.descriptor.digest) and same_content(
                    self.store, record.layer, layer, same_sources=copied_same is True
                ):
                    return Made(record.layer, record.created)
        return None

    def copied_same(self, record: Record) -> bool | None:
        """Whether an earlier copy is known to have read the same files, or others; then no look at them is needed."""
        inputs = record.inputs.get("inputs")
        if (
            not isinstance(self.op, ops.CopyOp)
            or not isinstance(inputs, dict)
            or not self.state.content_known
        ):
            return None
        ((name, digest),) = self.state.content
        return inputs[name] == digest if name in inputs else None

    def while_wanted(self, items: Iterable[Item]) -> Iterator[Item]:
        for item in items:
            if self.executor.stop.urgent:
                raise Cancelled("the build was stopped")
            yield item

    def record(self, packing: _Packing, now: float, earlier: Made | None = None) -> Made:
        """Note what the work came to, then let those who wait for the same work go on."""
        made = earlier or Made(packing.layer, now)
        for parts in (
            {self.state.exact_key, self.state.content_key}
            if self.state.content_known
            else {self.state.exact_key}
        ):
            self.store.cache.put(
                parts.key(),
                Record(
                    made.layer, self.state.described(parts), step=ops.digest(self.op), created=made.created
                ),
            )
        self.claim.close()
        reused = made.layer.diff_id != packing.layer.diff_id
        times = packing.started, packing.finished
        self.state.solver.recorder.made(self.state, made.layer, packing.size, times, reused=reused)
        return made
