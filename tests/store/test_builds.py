"""Records of builds: written and read alike, found by what people write, and only the recent ones kept."""

from __future__ import annotations

import os

import pytest

from layersmith.dataclass import replace
from layersmith.errors import NotFoundError, StoreError
from layersmith.oci.descriptor import Descriptor, Layer
from layersmith.oci.digest import DiffID, Digest
from layersmith.store import Build, BuildStep, Cause, Store
from layersmith.store.builds import KEEP_FAILED, new_id

DIGEST = "sha256:" + "1" * 64
STEP = BuildStep(
    number=2,
    name="[app 1/2] RUN make",
    instruction="RUN make",
    stage="app",
    platform="linux/amd64",
    source="Buildfile:7",
    line=7,
    needs=(0, 1),
    outcome="ran",
    key=DIGEST,
    parts={"op": DIGEST, "inputs": {"files": DIGEST}},
    why=(
        Cause("file", "src/a.c", "file 644", "file 755", of="context"),
        Cause("parent", step=0),
    ),
    against="klmno/3",
    started=10.5,
    finished=11.0,
    worker=0,
    pack_started=11.0,
    pack_finished=12.0,
    layer=Layer(Descriptor("application/x", Digest(DIGEST), 5), DiffID(DIGEST)),
    diff_size=1024,
    reused=True,
    error="",
    log=True,
)
BUILD = Build(
    id="",
    started=10.0,
    names=("web:latest",),
    buildfile="Buildfile",
    text_digest=DIGEST,
    context="/src",
    target="app",
    platforms=("linux/amd64",),
    bases=(("debian", DIGEST),),
    jobs=8,
    epoch=0,
    finished=13.0,
    result="done",
    image=DIGEST,
    warnings=("careful",),
    steps=(BuildStep(0, "FROM debian", "FROM debian", outcome="base"), STEP),
)


def record(store: Store, **changes: object) -> Build:
    """A build's record in the store, newer than those before it."""
    name, lock = store.builds.begin()
    build = replace(BUILD, id=name, **changes)
    store.builds.write(build)
    os.close(lock)
    order = len(store.builds.ids())
    os.utime(store.builds.directory(name) / "build.json", ns=(order, order))
    return build


def test_a_record_comes_back_as_it_was(store: Store) -> None:
    """Every field, those of steps, causes and layers included."""
    build = record(store)
    assert store.builds.read(build.id) == build


def test_a_record_of_a_newer_version_can_be_read(store: Store) -> None:
    """Members that it does not know are no error."""
    build = record(store)
    path = store.builds.directory(build.id) / "build.json"
    path.write_text(path.read_text().replace('"image"', '"novelty":[1],"image"', 1))
    assert store.builds.read(build.id) == build


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"steps":3}', '{"id":"k","started":1,"steps":[{"name":1}]}']
)
def test_a_damaged_record_is_told_and_passed_over(store: Store, text: str) -> None:
    """It names the build; the list goes on without it."""
    damaged, whole = record(store), record(store)
    (store.builds.directory(damaged.id) / "build.json").write_text(text)
    with pytest.raises(StoreError, match=damaged.id):
        store.builds.read(damaged.id)
    assert [build.id for build in store.builds.recent()] == [whole.id]


def test_finding_a_build(store: Store) -> None:
    """By its id or the beginning of it, its image's name, its place from the end; else an error that says so."""
    first, second = record(store, names=("web:latest",)), record(store, names=("db:1",))
    assert store.builds.find("") == second
    assert store.builds.find("^1") == first
    assert store.builds.find("^") == first
    assert store.builds.find(first.id) == first
    assert store.builds.find(first.id[:8]) == first
    assert store.builds.find("web") == first
    assert store.builds.find("db:1") == second
    for wrong in ("^2", "nosuch", "^x", "../x"):
        with pytest.raises(NotFoundError):
            store.builds.find(wrong)


def test_a_running_build_is_told_from_a_killed_one(store: Store) -> None:
    """By the lock on its directory, which goes with the process."""
    name, lock = store.builds.begin()
    store.builds.write(replace(BUILD, id=name, result="running", finished=None))
    assert store.builds.read(name).result == "running"
    assert not store.builds.remove(name)
    os.close(lock)
    assert store.builds.read(name).result == "killed"
    assert store.builds.remove(name)
    assert store.builds.ids() == []


def test_only_the_recent_builds_are_kept(store: Store) -> None:
    """The oldest go, together, so that most builds need not look."""
    ids = [record(store).id for _ in range(7)]
    store.builds.forget_old(keep=5)
    assert len(store.builds.ids()) == 7
    ids.append(record(store).id)
    store.builds.forget_old(keep=5)
    assert store.builds.ids() == ids[:-6:-1]


def test_failed_files_are_kept_of_the_last_few_builds(store: Store) -> None:
    """The records stay."""
    ids = [record(store).id for _ in range(KEEP_FAILED + 2)]
    for name in ids:
        (store.builds.failed(name, 1) / "upper").mkdir(parents=True)
    store.builds.forget_failed()
    assert [name for name in ids if store.builds.failed(name, 1).exists()] == ids[-KEEP_FAILED:]
    assert len(store.builds.ids()) == len(ids)


def test_ids_are_no_beginning_of_a_digest() -> None:
    """So that ``logs NAME`` can tell a build from a container."""
    assert not set("".join(new_id() for _ in range(100))) & set("0123456789abcdef")
