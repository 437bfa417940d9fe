"""SOLVE: what the cache knows of a step. In: the step and the results it needs. Out: its `StepResult`, or None.

Imports little: a build that is all cached gets no further than this module.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from layersmith import ops
from layersmith.dataclass import replace
from layersmith.progress import Notice, StepFinished
from layersmith.solve.keys import KeyParts, recipe
from layersmith.solve.results import StackedLayer, StepResult

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from layersmith.execute.copy import Remote
    from layersmith.execute.tree import Tree
    from layersmith.layer.view import View
    from layersmith.plan import Step
    from layersmith.solve.merged import Merged
    from layersmith.solve.solver import Solver
    from layersmith.store.cache import Record


T = TypeVar("T")


class once(Generic[T]):
    """A property that is made when first asked for and kept in the instance.

    functools.cached_property holds one lock for all instances before Python 3.12: a step that waits for its parent
    while making its key would keep the parent from making its own.
    """

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self._name = make.__name__
        self.__doc__ = make.__doc__

    def __get__(self, instance: Any, _owner: type) -> T:
        value = instance.__dict__[self._name] = self._make(instance)
        return value


class StepState:
    """A step with the results below it, and the keys that follow from them; each part is made when first asked for.

    Without ``merged`` only what needs no mount can be known: the content of other steps' files can't.
    """

    def __init__(
        self,
        solver: Solver,
        index: int,
        results: Mapping[int, StepResult],
        merged: Merged | None = None,
    ) -> None:
        step: Step = solver.plan.steps[index]
        assert step.parent is not None, "a SourceOp has nothing to run"
        self.solver = solver
        self.store = solver.store
        self.merged = merged
        self.index = index
        self.step = step
        self.op = step.op
        self.parent = results[step.parent]
        self.inputs = {ops.StepInput(n): results[n] for n in step.inputs}
        self.epoch = solver.settings.epoch
        self.started = time.monotonic()
        self.listings: dict[str, tuple[tuple[str, str], ...]] = {}
        """What was digested, by its digest."""

    def adopt(self, earlier: StepState) -> None:
        """Take over what ``earlier``, the same step looked at a moment ago, has read."""
        self.listings.update(earlier.listings)
        for name in ("remote", "content"):
            if name in earlier.__dict__:
                self.__dict__[name] = earlier.__dict__[name]

    def finished(self, how: str) -> None:
        seconds = time.monotonic() - self.started
        self.solver.progress.emit(StepFinished(self.index, self.step.name, how, seconds))

    def warn(self, text: str) -> None:
        self.solver.progress.emit(Notice("warning", f"{self.step.span}: {text}"))

    def cached(self) -> StepResult | None:
        """The result of an earlier run with the same key, if its layer is still there."""
        if self.solver.no_cache(self.step) or self.store.cache.nearest(ops.digest(self.op)) is None:
            # Nothing to be had; asking for a key would wait for the parent's layer to be packed.
            return None
        record = self._lookup()
        if record is None or record.layer is None:
            return None
        self.solver.recorder.hit(self.index, record)
        self.finished("cached")
        return self.on_top(StackedLayer.of(record.layer, record.created))

    def _lookup(self) -> Record | None:
        record = self.store.cache.get(self.exact_key.key())
        if record is None and self.asks_content:
            # The files came about in another way: their content decides.
            record = self.store.cache.get(self.content_key.key())
            if record is not None:
                record = replace(record, inputs=self.described(self.exact_key))
                self.store.cache.put(self.exact_key.key(), record)
        return record

    def on_top(self, stacked: StackedLayer) -> StepResult:
        """The parent's files with one more layer."""
        return StepResult((*self.parent.stack, stacked), self.recipe)

    # Keys

    @once
    def recipe(self) -> str:
        """See `keys.recipe`."""
        fixed = () if self.inputs else tuple(digest for _, digest in self.content)
        below = tuple(result.recipe for result in self.inputs.values())
        return recipe(self.op, self.parent.recipe, (*below, *fixed), self.epoch)

    @property
    def linked(self) -> bool:
        """``--link``: of the files below it takes nothing but `facts`."""
        return isinstance(self.op, ops.CopyOp) and self.op.link

    @property
    def asks_content(self) -> bool:
        """Whether its two keys differ, and the second one can be known."""
        if self.inputs:
            return self.merged is not None
        here = self.store.blobs.obtainable
        return self.linked and all(here(layer.descriptor.digest) for layer in self.parent.layers())

    @once
    def facts(self) -> str:
        """What a ``--link`` takes from its destination. Looks at the layers below, so these must be here."""
        from layersmith.execute.copy import destination_facts

        assert isinstance(self.op, ops.CopyOp)
        with self.view() as view:
            return repr(destination_facts(self.op, view))

    @once
    def exact_key(self) -> KeyParts:
        """The key by what all files of other steps are made of: known without a look at a single one of them."""
        if not self.inputs:
            if not self.linked:
                return self.content_key
            return KeyParts(self.op, self.parent.chain(), self.content, self.epoch)
        chains = tuple(
            (f"from {position}", result.chain()) for position, result in enumerate(self.inputs.values())
        )
        context = tuple(
            (f"mount {mount.target}", self.mounted(mount, self.solver.contexts))
            for mount in self.binds
            if isinstance(mount.input, ops.ContextInput)
        )
        return KeyParts(self.op, self.parent.chain(), (*chains, *context), self.epoch)

    @once
    def content_key(self) -> KeyParts:
        """The key by what is in the files that the step reads."""
        below = self.facts if self.linked else self.parent.chain()
        return KeyParts(self.op, below, self.content, self.epoch)

    def described(self, parts: KeyParts) -> dict[str, object]:
        """``parts`` as a record has them, with what else `explain` compares."""
        return parts.describe() | ({"facts": self.facts} if self.linked else {})

    @once
    def content(self) -> tuple[tuple[str, str], ...]:
        """(what, digest) of everything that the op reads besides its parent's files."""
        if isinstance(self.op, ops.CopyOp):
            return (("files", self.digested(self.op, self.trees, self.remote)),)
        return tuple((f"mount {mount.target}", self.mounted(mount, self.trees)) for mount in self.binds)

    @property
    def binds(self) -> tuple[ops.BindMount, ...]:
        mounts = self.op.mounts if isinstance(self.op, ops.ExecOp) else ()
        return tuple(mount for mount in mounts if isinstance(mount, ops.BindMount))

    def mounted(self, mount: ops.BindMount, trees: Mapping[Any, Tree]) -> str:
        """The digest of what a bind mount shows."""
        return self.digested(ops.CopyOp((ops.PathSource(mount.source, mount.input),), "/"), trees)

    def digested(self, op: ops.CopyOp, trees: Mapping[Any, Tree], remote: Remote | None = None) -> str:
        from layersmith.execute.copy import copy_inputs

        inputs = copy_inputs(op, trees, remote or {}, listed=True, stats=self.store.statcache)
        self.listings[inputs.digest] = inputs.paths
        return inputs.digest

    @property
    def content_known(self) -> bool:
        """Whether the inputs' files were digested, or can be without unpacking anything."""
        return "content" in self.__dict__ or "trees" in self.__dict__

    # Files

    @once
    def remote(self) -> Remote:
        """ADD's downloads and clones, made once."""
        assert isinstance(self.op, ops.CopyOp)
        if not any(isinstance(s, ops.HttpSource | ops.GitSource) for s in self.op.sources):
            return {}
        from layersmith.execute.copy import fetch_remote

        return fetch_remote(
            self.op,
            fetch=self.solver.fetch,
            # a directory of its own: the step may be looked at twice, before there is an executor and again with one
            scratch=self.store.temporary(f"remote-{self.index}"),
            memory=self.store.root / "remotes",
            secrets=self.secret,
            warn=self.warn,
        )

    def secret(self, name: str) -> bytes | None:
        read = self.solver.settings.run.secrets.get(name)
        return None if read is None else read()

    @once
    def trees(self) -> dict[ops.Input, Tree]:
        """The files of every input, as directories."""
        from layersmith.execute.tree import Tree

        trees: dict[ops.Input, Tree] = dict(self.solver.contexts.items())
        for given, result in self.inputs.items():
            stage = self.solver.plan.steps[given.step]
            label = f"stage {stage.stage}" if stage.stage else stage.name.removeprefix("FROM ")
            assert self.merged is not None
            trees[given] = Tree(self.merged.view(result.stack, result.chain()), label)
        return trees

    def view(self) -> View:
        """The files below, by their layers' indexes."""
        from layersmith.layer.view import View

        return View(self.store, self.parent.layers())
