"""SOLVE: running a DAG. In: who needs whom, and what to do with each. Out: the results, or the first failure.

Knows nothing of steps: a node is an index, needs are smaller indexes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 0.3
"""Seconds that an interrupted build gives its threads to end in; then it ends without them."""


def run_dag(
    needs: Sequence[Sequence[int]],
    execute: Callable[[int, dict[int, T]], T],
    *,
    jobs: int,
    done: Mapping[int, T] | None = None,
    keep_going: bool = False,
    on_failure: Callable[[], None] = lambda: None,
    on_interrupt: Callable[[], None] = lambda: None,
) -> dict[int, T]:
    """Call ``execute(node, results)`` for every node that is not ``done``, at most ``jobs`` at once, each as soon as its needs are done.

    At the first failure nothing new starts and ``on_failure`` is called, to stop what runs; with ``keep_going`` all
    that does not need the failed node is still done. Then the first failure is raised.

    What interrupts the waiting itself (Ctrl-C) is raised after ``on_interrupt`` was called and `PATIENCE` is over;
    what still runs by then, such as the reading of a file of many gigabytes, is left to its thread.
    """
    results: dict[int, T] = dict(done or {})
    failures: list[BaseException] = []
    waiting = {
        node: {need for need in before if need not in results}
        for node, before in enumerate(needs)
        if node not in results
    }
    pool = ThreadPoolExecutor(jobs, thread_name_prefix="step")
    running: dict[Future[T], int] = {}

    def start_ready() -> None:
        for node in [n for n, before in waiting.items() if not before]:
            del waiting[node]
            running[pool.submit(execute, node, results)] = node

    try:
        start_ready()
        while running:
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in sorted(ended, key=running.__getitem__):
                node = running.pop(future)
                error = future.exception()
                if error is None:
                    results[node] = future.result()
                    for before in waiting.values():
                        before.discard(node)
                    continue
                failures.append(error)
                if not keep_going:
                    waiting.clear()
                    if len(failures) == 1:
                        on_failure()
            start_ready()
    except BaseException:
        on_interrupt()
        pool.shutdown(wait=False, cancel_futures=True)
        wait(running, timeout=PATIENCE)
        raise
    pool.shutdown()
    if failures:
        raise failures[0]
    return results


class Stop:
    """A flag that many threads look at, and calls to make when it is set."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._set = False
        self._urgent_since: float | None = None
        self._calls: dict[int, Callable[[], None]] = {}

    def __bool__(self) -> bool:
        return self._set

    @property
    def urgent(self) -> bool:
        """A person asked: drop even what is merely being packed."""
        return self._urgent_since is not None

    def patience(self) -> float | None:
        """Seconds for which to wait for threads: no bound unless it is urgent, then what is left of `PATIENCE`."""
        if self._urgent_since is None:
            return None
        return max(0.0, self._urgent_since + PATIENCE - time.monotonic())

    def set(self, *, urgent: bool = False) -> None:
        """Set the flag and make all calls, once."""
        with self._lock:
            if urgent and self._urgent_since is None:
                self._urgent_since = time.monotonic()
            calls = list(self._calls.values()) if not self._set else []
            self._set = True
        for call in calls:
            call()

    def add(self, call: Callable[[], None]) -> int:
        """Have ``call`` made when the flag is set; at once if it is. Gives what `remove` takes."""
        with self._lock:
            if not self._set:
                self._calls[id(call)] = call
                return id(call)
        call()
        return 0

    def remove(self, token: int) -> None:
        with self._lock:
            self._calls.pop(token, None)
