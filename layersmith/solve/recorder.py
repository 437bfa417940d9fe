"""SOLVE: what a build's record will say. In: progress events, and what the solver tells of keys and layers. Out: `Build`.

It is a `Progress` that passes everything on, and keeps the whole output of every step. A build that is all cached
costs one small file, written at its end; one that runs steps is written as it goes, so that a kill leaves its logs.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from layersmith import ops
from layersmith.dataclass import replace
from layersmith.errors import Cancelled, LayersmithError, StoreError
from layersmith.progress import Notice, StepExplained, StepFinished, StepOutput, StepStarted
from layersmith.store.build_record import Build, BuildStep
from layersmith.store.files import storing

if TYPE_CHECKING:
    from layersmith.oci.descriptor import Layer
    from layersmith.plan import Plan
    from layersmith.progress import Event, Progress
    from layersmith.solve.explain import Explained
    from layersmith.solve.history import History
    from layersmith.solve.step import StepState
    from layersmith.store import Record, Store
    from layersmith.store.log import LogWriter

_REWRITE_SECONDS = 1.0

_OUTCOMES = {"ran": "ran", "failed": "failed", "cached": "hit"}
"""How a step ended, from the word of its `StepFinished`."""


class Recorder:
    """Records one build; a context manager around all of it. What it can't write it leaves: a record is no result."""

    def __init__(self, store: Store, progress: Progress, build: Build) -> None:
        self._store = store
        self._progress = progress
        self._build = build
        self._mutex = threading.RLock()
        self._lock = -1
        self._steps: dict[int, dict[str, Any]] = {}
        self._warnings: list[str] = []
        self._logs: dict[int, LogWriter] = {}
        self._written = 0.0
        self._history: History | None = None
        self._plan: Plan | None = None
        self.record: Build | None = None
        """What was last written; at the end, all of it."""

    @property
    def id(self) -> str:
        """The build's id; it has one once something ran, and at its end."""
        return self._build.id

    @property
    def ran(self) -> bool:
        """Did any step have to run so far?"""
        with self._mutex:
            return any(step.get("outcome") in ("running", "ran") for step in self._steps.values())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            stopped = isinstance(error, Cancelled | KeyboardInterrupt)
            self._change(result="cancelled" if stopped else "failed", error=_message(error))
        else:
            self._change(result="done")
        self._finish()

    # What the line tells

    def planned(self, plan: Plan) -> None:
        """What will be done."""
        self._plan = plan
        for number, step in enumerate(plan.steps):
            span = step.span
            self._steps[number] = {
                "number": number,
                "name": step.name,
                "instruction": step.name.partition("] ")[2] if step.created_by else step.name,
                "stage": step.stage,
                "platform": str(step.platform or ""),
                "source": f"{span.source.name}:{span.line}" if span else "",
                "line": span.line if span else 0,
                "needs": step.needs,
                "below": plan.steps[step.needs[0]].name if step.needs else "",
                "arguments": step.arguments,
                "outcome": "base" if isinstance(step.op, ops.SourceOp) else "waiting",
            }
        self._change(bases=tuple(dict.fromkeys(_bases(plan))))

    def built(self, digest: str) -> None:
        """The digest of the image or index."""
        self._change(image=digest)

    # What the solver tells

    def hit(self, index: int, record: Record) -> None:
        """The cache had the step."""
        now = time.time()
        self._note(
            index,
            started=now,
            finished=now,
            key=record.key,
            parts=self._parts(index, record),
            layer=record.layer,
        )

    def _parts(self, index: int, record: Record) -> dict[str, Any]:
        if "identity" in record.inputs or self._plan is None:
            return dict(record.inputs)
        # A record from another machine's cache does not say what the command was.
        return {"identity": ops.to_json(self._plan.steps[index].op, identity=True), **record.inputs}

    def missed(self, state: StepState) -> None:
        """The step is about to run."""
        self._note(state.index, outcome="running", started=time.time(), worker=_worker())
        self._explain(state, complete=False)

    def made(
        self, state: StepState, layer: Layer, diff_size: int, times: tuple[float, float], *, reused: bool
    ) -> None:
        """Its layer is in the store."""
        self._note(
            state.index,
            layer=layer,
            diff_size=diff_size,
            pack_started=times[0],
            pack_finished=times[1],
            reused=reused,
        )
        self._explain(state, complete=True)

    def failed(self, state: StepState, error: BaseException) -> None:
        """It was not done. Only what is known already is told of why it ran: nothing is waited for any more."""
        stopped = isinstance(error, Cancelled | KeyboardInterrupt)
        self._note(
            state.index,
            outcome="cancelled" if stopped else "failed",
            finished=time.time(),
            error=_message(error),
        )

    def _explain(self, state: StepState, *, complete: bool) -> None:
        from layersmith.solve.explain import explain, parts_of
        from layersmith.solve.history import History

        parts = parts_of(state, complete=complete)
        with self._mutex:
            if "key" in (self._steps[state.index].get("parts") or ()):
                return  # told before it ran, from all there is
            if self._history is None:
                self._history = History(self._store.builds, self.id)
            told = self._steps[state.index].get("why")
        for digest, paths in state.listings.items():
            with suppress(StoreError):  # then later builds can't name the file, and nothing worse
                self._store.builds.put_listing(digest, paths)
        found: Explained = explain(
            BuildStep(**{**self._steps[state.index], "parts": parts, "why": ()}),
            replace(self._build, steps=()),
            self._history,
            # Two: that of this build, which each comparison asks for again, and the other's.
            listing=lru_cache(2)(self._store.builds.listing),
            flag=state.solver.flag(state.step),
        )
        self._note(
            state.index, why=found.causes, against=found.against, parts=parts, key=parts.get("key", "")
        )
        if not told and found.causes:
            self._progress.emit(
                StepExplained(state.index, tuple(cause.text() for cause in found.causes), found.against)
            )

    # Progress

    def emit(self, event: Event) -> None:
        match event:
            case StepStarted():
                self._begin()
            case StepOutput(step, stream, data):
                with suppress(OSError, StoreError):  # a full disk is no reason to fail a step
                    self._log(step).write(stream, data)
            case StepFinished(step, _, how, _):
                if how in _OUTCOMES:
                    self._note(step, outcome=_OUTCOMES[how], finished=time.time())
                self._save_now_and_then()
            case Notice("warning", text):
                self._warnings.append(text)
            case _:
                pass
        self._progress.emit(event)

    def _log(self, step: int) -> LogWriter:
        with self._mutex:
            writer = self._logs.get(step)
            if writer is None:
                from layersmith.store.log import LogWriter

                self._begin()
                path = self._store.builds.log(self.id, step)
                with storing(path.parent):
                    path.parent.mkdir(mode=0o700, exist_ok=True)
                writer = self._logs[step] = LogWriter(path)
                self._note(step, log=True)
            return writer

    # The record

    def _note(self, index: int, **changes: object) -> None:
        with self._mutex:
            self._steps.setdefault(index, {"number": index, "name": "", "instruction": ""}).update(changes)

    def _change(self, **changes: Any) -> None:
        with self._mutex:
            self._build = replace(self._build, **changes)

    def keep_failed(self, index: int) -> Path:
        """A new directory for what the failed step ``index`` left."""
        with self._mutex:
            self._begin()
            path = self._store.builds.failed(self.id, index)
            path.mkdir(mode=0o700, parents=True)
            return path

    def _begin(self) -> None:
        """Have a directory, with a first record."""
        with self._mutex:
            if not self.id:
                self._claim()
                self._save()

    def _claim(self) -> None:
        name, self._lock = self._store.builds.begin()
        self._change(id=name)

    def _save_now_and_then(self) -> None:
        with self._mutex:
            if self.id and time.monotonic() - self._written > _REWRITE_SECONDS:
                self._save()

    def _save(self) -> None:
        steps = tuple(BuildStep(**self._steps[number]) for number in sorted(self._steps))
        self.record = replace(self._build, steps=steps, warnings=tuple(self._warnings))
        self._store.builds.write(self.record)
        self._written = time.monotonic()

    def _finish(self) -> None:
        for step in self._steps.values():
            step["outcome"] = {"waiting": "skipped", "running": "cancelled"}.get(
                step["outcome"], step["outcome"]
            )
        for writer in self._logs.values():
            writer.close()
        if self._store.readonly:
            return
        try:
            if not self.id:
                self._claim()
            self._change(finished=time.time())
            self._save()
            self._store.builds.forget_old()
        except (LayersmithError, OSError):
            pass  # the build itself is done; that a full disk has no room for this is told by what needs room
        finally:
            if self._lock >= 0:
                os.close(self._lock)
                self._lock = -1


def _bases(plan: Plan) -> Iterable[tuple[str, str]]:
    from layersmith.oci.digest import chain_id

    for step in plan.steps:
        if isinstance(step.op, ops.SourceOp) and step.op.diff_ids:
            yield step.op.name, chain_id(list(step.op.diff_ids))  # type: ignore[arg-type]


def _message(error: BaseException) -> str:
    if isinstance(error, LayersmithError):
        return str(error)
    return "stopped" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}"


def _worker() -> int | None:
    """The number of the thread that runs a step: ``step_3`` is 3."""
    number = threading.current_thread().name.rpartition("_")[2]
    return int(number) if number.isdecimal() else None
