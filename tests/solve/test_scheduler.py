"""Running a DAG: order, side by side, the first failure, stopping."""

from __future__ import annotations

import _thread
import threading
import time

import pytest

from layersmith.solve.scheduler import PATIENCE, Stop, run_dag


def test_every_node_sees_the_results_of_its_needs() -> None:
    """A node starts only when all that it needs has a result."""
    needs = [(), (0,), (0,), (1, 2)]
    results = run_dag(needs, lambda n, done: sum((done[m] for m in needs[n]), start=1), jobs=4)
    assert results == {0: 1, 1: 2, 2: 2, 3: 5}


def test_independent_nodes_run_side_by_side() -> None:
    """Two nodes that need nothing of each other are under way at the same time."""
    meeting = threading.Barrier(2, timeout=5)
    run_dag([(), ()], lambda _n, _done: meeting.wait(), jobs=2)


def test_never_more_than_jobs_at_once() -> None:
    """``jobs`` is a bound."""
    lock, now, most = threading.Lock(), [0], [0]
    pause = threading.Event()

    def work(_node: int, _done: dict[int, None]) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        pause.wait(0.01)
        with lock:
            now[0] -= 1

    run_dag([()] * 12, work, jobs=3)
    assert 1 < most[0] <= 3


def test_first_failure_stops_the_rest() -> None:
    """Nothing starts after a failure; what runs is told to stop; the failure is raised."""
    started = []
    stopped = []

    def work(node: int, _done: dict[int, None]) -> None:
        started.append(node)
        if node == 0:
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        run_dag([(), (0,), (1,)], work, jobs=2, on_failure=lambda: stopped.append(True))
    assert started == [0]
    assert stopped == [True]


def test_an_interrupt_does_not_wait_for_who_does_not_listen() -> None:
    """Ctrl-C is raised soon, though a node is still at work; ``on_interrupt`` is called, and nothing new starts."""
    started, interrupted, release = [], [], threading.Event()

    def work(node: int, _done: dict[int, None]) -> None:
        started.append(node)
        _thread.interrupt_main()
        release.wait(30)

    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_dag([(), (), (0,)], work, jobs=1, on_interrupt=lambda: interrupted.append(True))
    took = time.monotonic() - begin
    release.set()
    assert took < PATIENCE + 2
    assert interrupted == [True]
    assert started == [0]


def test_keep_going_finishes_what_does_not_need_the_failed() -> None:
    """With ``keep_going`` only what stands on the failed node is left out."""
    done_nodes = []

    def work(node: int, _done: dict[int, None]) -> None:
        if node == 0:
            raise ValueError("no")
        done_nodes.append(node)

    with pytest.raises(ValueError, match="no"):
        run_dag([(), (), (0,), (1,)], work, jobs=1, keep_going=True)
    assert done_nodes == [1, 3]


def test_stop_calls_everyone_once_and_late_comers_at_once() -> None:
    """A stop reaches who registered before it, who registers after it, and nobody who left."""
    stop, calls = Stop(), []
    stop.add(lambda: calls.append("early"))
    stop.remove(stop.add(lambda: calls.append("gone")))
    stop.set()
    stop.set()
    stop.add(lambda: calls.append("late"))
    assert stop
    assert calls == ["early", "late"]
