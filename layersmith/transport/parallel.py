"""Many transfers at once, the first failure of which ends them all.

In: functions. Out: nothing, once all are done; or the first error.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence

Task = Callable[[threading.Event], None]
"""Does its work unless the event is set; then it raises Cancelled soon."""

GRACE = 1.0
"""Seconds that the others get, together, to clean up after a failure or Ctrl-C. One that is stuck in a read is left
behind: its thread is a daemon, and what it has written is in the session's scratch directory."""


def run_all(tasks: Sequence[Task], *, jobs: int) -> None:
    """Run ``tasks``, ``jobs`` at a time, beginning them in order. Raises what the first to fail raised."""
    stop = threading.Event()
    waiting: queue.SimpleQueue[Task] = queue.SimpleQueue()
    for task in tasks:
        waiting.put(task)
    outcomes: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    threads = [
        threading.Thread(target=_work, args=(waiting, outcomes, stop), name=f"transfer-{number}", daemon=True)
        for number in range(min(jobs, len(tasks)))
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in tasks:
            if error := outcomes.get():
                raise error
    finally:
        stop.set()
        deadline = time.monotonic() + GRACE
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def _work(
    waiting: queue.SimpleQueue[Task], outcomes: queue.SimpleQueue[BaseException | None], stop: threading.Event
) -> None:
    while not stop.is_set():
        try:
            task = waiting.get_nowait()
        except queue.Empty:
            return
        try:
            task(stop)
        except BaseException as error:
            outcomes.put(error)
            return
        outcomes.put(None)
