"""SOLVE: one step. In: the step and the results it needs. Out: its `StepResult`, from the cache or executed.

key -> hit, or execute -> diff -> layer -> commit -> record; the last three happen in the packer while the next
steps run.
"""

from __future__ import annotations

import time
from concurrent.futures import Future
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING

from layersmith import ops
from layersmith.errors import Cancelled, CommandError, located
from layersmith.execute.copy import (
    CopyInputs,
    Remote,
    copy_inputs,
    copy_items,
    destination_facts,
    fetch_remote,
)
from layersmith.execute.mkdir import mkdir_items
from layersmith.execute.tree import Tree
from layersmith.layer.changes import changes
from layersmith.layer.pack import pack
from layersmith.layer.view import View
from layersmith.oci.descriptor import Layer
from layersmith.progress import LayerPacked, Notice, StepFinished, StepStarted
from layersmith.solve.keys import KeyParts, recipe
from layersmith.solve.results import StackedLayer, StepResult
from layersmith.store.cache import Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from layersmith.layer.entry import Item
    from layersmith.plan import Step
    from layersmith.solve.solver import Solver
    from layersmith.store.snapshots import Pending


class StepRun:
    """A step being solved, in a worker thread of its own."""

    def __init__(self, solver: Solver, index: int, step: Step, results: Mapping[int, StepResult]) -> None:
        assert step.parent is not None, "a SourceOp has nothing to run"
        self.solver = solver
        self.store = solver.store
        self.index = index
        self.step = step
        self.op = step.op
        self.parent = results[step.parent]
        self.inputs = {ops.StepInput(n): results[n] for n in step.inputs}
        self.epoch = solver.settings.epoch
        self.claim = ExitStack()
        self.started = time.monotonic()

    def result(self) -> StepResult:
        """The step's files; raises what went wrong, without a place."""
        fixed = () if self.inputs else tuple(digest for _, digest in self.content)
        below = tuple(result.recipe for result in self.inputs.values())
        self.recipe = recipe(self.op, self.parent.recipe, (*below, *fixed), self.epoch)
        try:
            record = None
            if not self.solver.no_cache(self.step):
                # Whoever holds this lock is doing the same work: wait, and take the result.
                self.claim.enter_context(self.store.lock(f"step-{self.recipe.rpartition(':')[2]}"))
                record = self.lookup()
            if record is not None:
                self.claim.close()
                return self.hit(record)
            self.solver.progress.emit(StepStarted(self.index, self.step.name))
            return self.execute()
        except BaseException as error:
            self.claim.close()
            if not isinstance(error, Cancelled):
                self.finished("failed")
            raise

    def finished(self, how: str) -> None:
        seconds = time.monotonic() - self.started
        self.solver.progress.emit(StepFinished(self.index, self.step.name, how, seconds))

    def warn(self, text: str) -> None:
        self.solver.progress.emit(Notice("warning", f"{self.step.span}: {text}"))

    # Keys

    def lookup(self) -> Record | None:
        """The record of an earlier run with the same key, if its layer is still there."""
        if self.store.cache.nearest(ops.digest(self.op)) is None:
            # Nothing to be had; asking for a key would wait for the parent's layer to be packed.
            return None
        record = self.store.cache.get(self.exact_key.key())
        if record is None and self.inputs:
            # The files came about in another way: their content decides.
            record = self.store.cache.get(self.content_key.key())
            if record is not None:
                self.store.cache.put(self.exact_key.key(), record)
        return record

    @cached_property
    def below(self) -> str:
        """What the step stands on, for its key."""
        if isinstance(self.op, ops.CopyOp) and self.op.link:
            with self.view() as view:
                return repr(destination_facts(self.op, view))
        return self.parent.chain()

    @cached_property
    def exact_key(self) -> KeyParts:
        """The key by what the inputs are made of: known without a look at a single file of theirs."""
        if not self.inputs:
            return self.content_key
        pairs = tuple(
            (f"from {position}", result.chain()) for position, result in enumerate(self.inputs.values())
        )
        return KeyParts(self.op, self.below, pairs, self.epoch)

    @cached_property
    def content_key(self) -> KeyParts:
        return KeyParts(self.op, self.below, self.content, self.epoch)

    @cached_property
    def content(self) -> tuple[tuple[str, str], ...]:
        """(what, digest) of everything that the op reads besides its parent's files."""
        if isinstance(self.op, ops.CopyOp):
            return (("files", self.digested(self.op, self.remote).digest),)
        if isinstance(self.op, ops.ExecOp):
            read = [m for m in self.op.mounts if isinstance(m, ops.BindMount)]
            return tuple(
                (
                    f"mount {mount.target}",
                    self.digested(ops.CopyOp((ops.PathSource(mount.source, mount.input),), "/")).digest,
                )
                for mount in read
            )
        return ()

    def digested(self, op: ops.CopyOp, remote: Remote | None = None) -> CopyInputs:
        return copy_inputs(op, self.trees, remote or {}, stats=self.store.statcache)

    @cached_property
    def remote(self) -> Remote:
        """ADD's downloads and clones, made once."""
        assert isinstance(self.op, ops.CopyOp)
        if not any(isinstance(s, ops.HttpSource | ops.GitSource) for s in self.op.sources):
            return {}
        scratch = self.solver.scratch / f"remote-{self.index}"
        scratch.mkdir()
        return fetch_remote(
            self.op, fetch=self.solver.fetch, scratch=scratch, secrets=self.secret, warn=self.warn
        )

    def secret(self, name: str) -> bytes | None:
        read = self.solver.settings.run.secrets.get(name)
        return None if read is None else read()

    @cached_property
    def trees(self) -> dict[ops.Input, Tree]:
        """The files of every input, as directories."""
        trees: dict[ops.Input, Tree] = dict(self.solver.contexts.items())
        for given, result in self.inputs.items():
            stage = self.solver.plan.steps[given.step]
            label = f"stage {stage.stage}" if stage.stage else stage.name.removeprefix("FROM ")
            trees[given] = Tree(self.solver.merged.view(result.stack, result.chain()), label)
        return trees

    def view(self) -> View:
        return View(self.store, self.parent.layers())

    # Doing it

    def hit(self, record: Record) -> StepResult:
        self.finished("cached")
        assert record.layer is not None, "every step but FROM makes a layer"
        return self.on_top(StackedLayer.of(record.layer), record.created)

    def on_top(self, stacked: StackedLayer, created: float) -> StepResult:
        return StepResult((*self.parent.stack, stacked), self.recipe, (*self.parent.created, created))

    def execute(self) -> StepResult:
        now = time.time() if self.epoch is None else float(self.epoch)
        if isinstance(self.op, ops.ExecOp):
            pending = self.command(self.op)
            self.finished("ran")
            packed: Future[Layer] = self.solver.packer.submit(self.pack_upper, pending, now)
            return self.on_top(StackedLayer(packed, pending.path), now)
        with self.view() as view:
            layer = self.pack(self.items(view, int(now)))
        self.record(layer, now)
        self.finished("ran")
        return self.on_top(StackedLayer.of(layer), now)

    def items(self, view: View, now: int) -> Iterator[Item]:
        match self.op:
            case ops.CopyOp():
                return copy_items(self.op, self.trees, self.remote, view, now=now, warn=self.warn)
            case ops.MkdirOp():
                return mkdir_items(self.op, view, now=now)
            case _:
                raise AssertionError(f"{self.op} makes no items")

    def command(self, op: ops.ExecOp) -> Pending:
        """Run the step's command, again where ``--retry`` allows; the upper directory that it left."""
        lowers = self.solver.merged.lowerdirs(self.parent.stack)
        for attempt in range(op.retry + 1):
            pending = self.store.snapshots.create()
            try:
                self.solver.runner.run(self.index, op, lowers, pending, self.trees)
            except CommandError as error:
                self.store.snapshots.discard(pending)
                if attempt == op.retry or self.solver.stop:
                    raise
                self.warn(f"{error.message}; trying again ({attempt + 1} of {op.retry})")
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
            with located(self.step.span), self.view() as lower:
                namespace = self.solver.merged.xattr_namespace
                layer = self.pack(changes(pending.path, lower=lower, xattr_namespace=namespace))
            if self.store.snapshots.commit(pending, layer.diff_id) != pending.path:
                self.solver.discard_later(pending)
            self.record(layer, now)
            return layer
        except BaseException:
            self.solver.discard_later(pending)
            self.claim.close()
            raise

    def pack(self, items: Iterable[Item]) -> Layer:
        started = time.monotonic()
        settings = self.solver.settings
        packed = pack(
            self.store, self.while_wanted(items), compression=settings.compression, epoch=self.epoch
        )
        layer = packed.layer
        seconds = time.monotonic() - started
        self.solver.progress.emit(
            LayerPacked(self.index, layer.descriptor.digest, layer.descriptor.size, seconds)
        )
        return layer

    def while_wanted(self, items: Iterable[Item]) -> Iterator[Item]:
        for item in items:
            if self.solver.stop.urgent:
                raise Cancelled("the build was stopped")
            yield item

    def record(self, layer: Layer, now: float) -> None:
        """Note what the work came to, then let those who wait for the same work go on."""
        for parts in {self.exact_key, self.content_key} if self.content_known else {self.exact_key}:
            self.store.cache.put(
                parts.key(),
                Record(layer, parts.describe(), step=ops.digest(self.op), created=now),
            )
        self.claim.close()

    @property
    def content_known(self) -> bool:
        """Whether the inputs' files were digested, or can be without unpacking anything."""
        return "content" in self.__dict__ or "trees" in self.__dict__
