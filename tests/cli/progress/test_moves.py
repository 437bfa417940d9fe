"""What was pulled and pushed, for the record."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from layersmith.cli.progress.moves import Moves
from layersmith.progress import Event, LayerUnpacked, StepStarted, Transfer
from layersmith.store import Store
from layersmith.store.build_record import Build, Moved


class Kept:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)


def test_each_transfer_is_noted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its first event to its last, by time; every event goes on to who shows it."""
    now = 0.0
    monkeypatch.setattr("time.time", lambda: now)
    kept = Kept()
    moves = Moves(kept)
    events: list[Event] = [
        Transfer("pull", "b", 0, 10),
        Transfer("push", "a", 5, 5),
        Transfer("pull", "b", 10, 10),
        LayerUnpacked("sha256:" + "c" * 64, 10, 0.5),
        StepStarted(1, "RUN x"),
    ]
    for event in events:
        now += 1
        moves.emit(event)
    assert kept.events == events
    with Store.open(tmp_path / "store") as store:
        name, lock = store.builds.begin()
        moves.note(store, Build(name, 0.5))
        before = (
            Moved("pull", "b", 10, 1, 3),
            Moved("push", "a", 5, 2, 2),
            Moved("unpack", "c" * 12, 10, 3.5, 4),
        )
        assert store.builds.read(name).moved == before
        later = Moves(Kept())
        later.emit(Transfer("push", "d", 1, 1))
        later.note(store, store.builds.read(name))
        assert store.builds.read(name).moved == (*before, Moved("push", "d", 1, 5, 5))
        os.close(lock)


def test_nothing_is_written_of_nothing(tmp_path: Path) -> None:
    """A build without transfers keeps its record as it is; one without a record has none to keep."""
    with Store.open(tmp_path / "store") as store:
        Moves(Kept()).note(store, Build("k", 0.0))
        moves = Moves(Kept())
        moves.emit(Transfer("pull", "b", 1, 1))
        moves.note(store, None)
        assert store.builds.ids() == []
