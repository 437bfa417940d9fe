"""SOLVE: what executing steps needs and a build that is all cached does not. In: an isolated process. Out: `Executor`.

Made once, in the main thread and before any other: the spawner must be forked from a process without threads.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType
from typing import Self

from layersmith.execute.run import Runner
from layersmith.execute.settings import RunSettings
from layersmith.linux import runtime as linux_runtime
from layersmith.linux.network import DefaultNetwork
from layersmith.linux.spawner import Spawner
from layersmith.linux.userns import Isolation
from layersmith.progress import Notice, Progress
from layersmith.solve.merged import Merged
from layersmith.solve.results import Made
from layersmith.solve.scheduler import Stop
from layersmith.store import Pending, Store

SWITCH = 0.0005
"""Seconds after which a thread that computes lets another one go on."""


class Executor:
    """The runner, the views of steps' files, and the packer's threads; a context manager."""

    def __init__(
        self,
        store: Store,
        spawner: Spawner,
        isolation: Isolation,
        settings: RunSettings,
        progress: Progress,
        stop: Stop,
        scratch: Path,
    ) -> None:
        self.stop = stop
        # A thread that is woken (its command has ended) else waits 5 ms for one that computes (packing a layer).
        sys.setswitchinterval(SWITCH)
        self._store = store
        self._discard: list[Pending] = []
        self.merged = Merged(store, scratch / "merged", isolation, progress)
        for warning in isolation.warnings:
            progress.emit(Notice("warning", warning))
        runtime = linux_runtime.runtime(settings.isolation, spawner, store.temporary)
        self._network = DefaultNetwork(
            spawner, scratch, notify=lambda text: progress.emit(Notice("warning", text))
        )
        self.runner = Runner(store, runtime, self._network, isolation, settings, progress, stop)
        # Packs are queued in the order of the steps, and each waits only for those before it: two workers suffice
        # to keep both reading and compressing busy, and they can't wait for each other.
        self._packer = ThreadPoolExecutor(2, thread_name_prefix="pack")
        self._packs: list[Future[Made]] = []

    def pack(self, work: Callable[[], Made]) -> Future[Made]:
        """Have a layer packed while the next steps run."""
        self._packs.append(self._packer.submit(work))
        return self._packs[-1]

    def discard_later(self, pending: Pending) -> None:
        """Remove an upper directory once no step can be standing on it any more: at the end."""
        self._discard.append(pending)

    def __enter__(self) -> Self:
        self.merged.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._packer.shutdown(wait=False, cancel_futures=self.stop.urgent)
        wait(self._packs, timeout=self.stop.patience())
        for pending in self._discard:
            self._store.snapshots.discard(pending)
        self._network.close()
        self.merged.__exit__(kind, error, trace)
