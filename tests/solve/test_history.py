"""Earlier builds: which are read, and in which order they are given."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from layersmith.solve.history import History
from layersmith.store import Store
from layersmith.store.build_record import Build, BuildStep


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as store:
        yield store


def record(store: Store, buildfile: str, context: str, *ops: str, outcome: str = "ran") -> str:
    name, lock = store.builds.begin()
    steps = tuple(
        BuildStep(n, op, op, outcome=outcome, parts={"op": op, "identity": {"type": "ExecOp"}})
        for n, op in enumerate(ops)
    )
    os.close(lock)
    store.builds.write(Build(name, 0.0, buildfile=buildfile, context=context, steps=steps))
    return name


def test_steps_by_their_operation(store: Store) -> None:
    """The newest first; not the build that asks, not what did not run, not a record that is damaged."""
    first = record(store, "Buildfile", "/a", "sha256:1", "sha256:2")
    record(store, "Buildfile", "/a", "sha256:1", outcome="failed")
    damaged = record(store, "Buildfile", "/a", "sha256:1")
    (store.builds.root / damaged / "build.json").write_text('{"sha256:1"')
    last = record(store, "Other", "/b", "sha256:1")
    own = record(store, "Other", "/b", "sha256:1")
    history = History(store.builds, own)
    assert [(build.id, step.number) for build, step in history.steps_of("sha256:1")] == [
        (last, 0),
        (first, 0),
    ]
    assert [(build.id, step.number) for build, step in history.steps_of("sha256:2")] == [(first, 1)]
    assert list(history.steps_of("sha256:3")) == []


def test_the_same_buildfile_comes_first(store: Store) -> None:
    """And the same context: a quote, a backslash and a letter beyond ASCII in their names change nothing."""
    here = 'Buildfile "ü\\x"', "/a"
    oldest = record(store, *here)
    middle = record(store, "Buildfile", "/a")
    newest = record(store, here[0], "/b")
    history = History(store.builds, "")
    found = [build.id for build in history.nearest_first(Build("", 0.0, buildfile=here[0], context=here[1]))]
    assert found == [oldest, newest, middle]
    assert json.loads((store.builds.root / oldest / "build.json").read_bytes())["buildfile"] == here[0]
