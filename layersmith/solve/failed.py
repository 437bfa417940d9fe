"""SOLVE: what a failed RUN left, kept to be looked at. In: its state and upper directory. Out: the same, read again.

builds/<id>/failed/<step>/upper/        the upper directory, as the command left it
builds/<id>/failed/<step>/step.json     the operation, the layers below, those of the steps that it mounts
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layersmith import ops
from layersmith.dataclass import dataclass
from layersmith.errors import NotFoundError, StoreError
from layersmith.execute.tree import Tree
from layersmith.layer.unpack import merged_root, prepare_upper
from layersmith.oci.descriptor import Descriptor, Layer
from layersmith.oci.digest import DiffID, chain_id
from layersmith.oci.document import canonical
from layersmith.solve.results import StackedLayer
from layersmith.store.builds import FAILED
from layersmith.store.files import storing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from layersmith.linux.sandbox import Sandbox
    from layersmith.solve.executor import Executor
    from layersmith.solve.step import StepState
    from layersmith.store import Pending, Store
    from layersmith.store.build_record import Build


@dataclass(frozen=True, slots=True)
class FailedStep:
    """A RUN that failed: its operation, the ``layers`` below it, lowest first, and its ``upper`` directory.

    ``inputs`` are the layers of the steps that it mounts, by their numbers; ``contexts`` the directories of contexts.
    """

    number: int
    op: ops.ExecOp
    layers: tuple[Layer, ...]
    inputs: dict[int, tuple[Layer, ...]]
    contexts: dict[str, Path]
    upper: Path
    hosts: tuple[tuple[str, str], ...] = ()
    dns: tuple[str, ...] = ()


@contextmanager
def prepared(
    store: Store, executor: Executor, failed: FailedStep, contexts: Mapping[ops.Input, Tree]
) -> Iterator[Sandbox]:
    """The sandbox of the failed command, on the files that it left; what is changed in there goes with the block.

    ``contexts`` are the trees of the contexts that it mounts. Raises as `layersmith.execute.run.Runner.run`.
    """
    merged = executor.merged
    trees = dict(contexts)
    for number, layers in failed.inputs.items():
        stack = _stack(layers)
        chain = chain_id([layer.diff_id for layer in layers])
        trees[ops.StepInput(number)] = Tree(merged.view(stack, chain), f"step {number}")
    lowers = (failed.upper, *merged.lowerdirs(_stack(failed.layers)))
    root = merged_root(store, [*failed.layers, failed.upper])
    pending = store.snapshots.create()
    try:
        prepare_upper(pending.path, root)
        executor.runner.expect(failed.op)
        with executor.runner.prepared(failed.op, lowers, pending, trees) as found:
            yield found.sandbox
    finally:
        store.snapshots.discard(pending)


def _stack(layers: Iterable[Layer]) -> tuple[StackedLayer, ...]:
    return tuple(StackedLayer.of(layer) for layer in layers)


def keep_failed(state: StepState, pending: Pending) -> str:
    """Keep what ``pending`` holds with the build's record; the build's id. Raises StoreError."""
    document = {
        "op": ops.to_json(state.op),
        "layers": _layers_json(state.parent.layers()),
        "inputs": {str(given.step): _layers_json(r.layers()) for given, r in state.inputs.items()},
        "contexts": {given.name: os.path.abspath(tree.root) for given, tree in state.solver.contexts.items()},
        "hosts": state.solver.settings.run.hosts,
        "dns": state.solver.settings.run.dns,
    }
    directory = state.solver.recorder.keep_failed(state.index)
    with storing(directory):
        (directory / FAILED).write_bytes(canonical(document))
        pending.path.rename(directory / "upper")
    state.store.builds.forget_failed()
    return directory.parent.parent.name


def read_failed(store: Store, build: Build, number: int) -> FailedStep:
    """What step ``number`` of ``build`` left.

    Raises:
        NotFoundError: nothing was kept of it, or no longer.
        StoreError: it is damaged.
    """
    directory = store.builds.failed(build.id, number)
    try:
        found = json.loads((directory / FAILED).read_bytes())
        op = ops.from_json(found["op"])
        if not isinstance(op, ops.ExecOp):
            raise TypeError("it is no RUN")
        return FailedStep(
            number,
            op,
            _layers(found["layers"]),
            {int(step): _layers(layers) for step, layers in found["inputs"].items()},
            {name: Path(path) for name, path in found["contexts"].items()},
            directory / "upper",
            tuple((name, address) for name, address in found.get("hosts", ())),
            tuple(found.get("dns", ())),
        )
    except FileNotFoundError:
        raise NotFoundError(
            f"nothing is kept of step {number} of build {build.id}",
            hint="only what a RUN that failed left is kept, of the last few builds in which one did",
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"what is kept of step {number} of build {build.id} is damaged: {error}",
            hint=f"`layersmith builds rm {build.id}`",
        ) from error


def _layers_json(layers: Iterable[Layer]) -> list[dict[str, Any]]:
    return [{**layer.descriptor.to_json(), "diffID": layer.diff_id} for layer in layers]


def _layers(values: list[dict[str, Any]]) -> tuple[Layer, ...]:
    return tuple(Layer(Descriptor.from_json(value), DiffID(value["diffID"])) for value in values)
