"""`Containers`: names, ids, locks, and what crashes leave."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layersmith.containers.config import ContainerConfig
from layersmith.containers.container import ConflictError, Container, Containers, is_locked
from layersmith.containers.status import EXITED, RUNNING, Status
from layersmith.errors import NotFoundError, StoreError, UsageError
from layersmith.linux.limits import Limits
from layersmith.linux.mounts import Bind, Tmpfs
from layersmith.linux.sandbox import Rlimit
from layersmith.oci.descriptor import Descriptor
from layersmith.oci.digest import digest_of
from layersmith.oci.process import Process

Make = Callable[..., Callable[[str, str], ContainerConfig]]

TEXT = st.text(max_size=20)
CONFIGS = st.builds(
    ContainerConfig,
    id=st.text("0123456789abcdef", min_size=64, max_size=64),
    name=TEXT,
    image=TEXT,
    manifest=st.builds(Descriptor, st.just("a/b"), st.binary().map(digest_of), st.integers(0, 1 << 40)),
    created=st.floats(0, 4e9),
    process=st.builds(Process, st.tuples(TEXT, TEXT), st.tuples(st.tuples(TEXT, TEXT)), TEXT, TEXT),
    mounts=st.lists(
        st.one_of(
            st.builds(Bind, TEXT, TEXT, readonly=st.booleans()),
            st.builds(Tmpfs, TEXT, st.integers(0, 1 << 40), st.integers(0, 0o7777)),
        ),
        max_size=3,
    ).map(tuple),
    rlimits=st.lists(st.builds(Rlimit, TEXT, st.integers(-1), st.integers(-1)), max_size=2).map(tuple),
    limits=st.builds(Limits, st.integers(-1), st.integers(-1), st.floats(0, 64), TEXT, st.integers(0)),
    tty=st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(CONFIGS)
def test_config_survives_the_disk(config: ContainerConfig) -> None:
    """What is written is read back as an equal value."""
    assert ContainerConfig.from_json(config.to_json()) == config


def test_bytes_in_arguments_survive_the_disk(config: Make) -> None:
    """Arguments that are not UTF-8 (surrogates, as the command line gives them) come back as the same bytes."""
    made = config("cat", os.fsdecode(b"/tmp/\xff"))("0" * 64, "n")
    assert os.fsencode(ContainerConfig.from_json(made.to_json()).process.args[1]) == b"/tmp/\xff"


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"null", b'{"id": "x"}', b"\xff"])
def test_config_refuses_what_it_did_not_write(data: bytes) -> None:
    """A damaged config.json is a ValueError, whatever is in it."""
    with pytest.raises(ValueError):
        ContainerConfig.from_json(data)


def test_found_by_name_id_and_prefix(containers: Containers, config: Make) -> None:
    """A container is found by its name, its id, and the beginning of the id, but not by that of its name."""
    with containers.create(config(), "brisk") as made:
        for text in ("brisk", made.id, made.id[:12], made.id[:4]):
            assert containers.find(text) == made
        for text in ("bris", "nosuch", "", "../names", made.id + "0"):
            with pytest.raises(NotFoundError):
                containers.find(text)


def test_ambiguous_prefix_is_refused(containers: Containers, config: Make) -> None:
    """A prefix that two ids have names neither."""
    seen: dict[str, str] = {}
    for _ in range(17):  # by the pigeonhole principle two of them begin with the same digit
        with containers.create(config()) as made:
            if made.id[0] in seen:
                with pytest.raises(NotFoundError, match="beginning of"):
                    containers.find(made.id[0])
                return
            seen[made.id[0]] = made.id
    pytest.fail("unreachable")


def test_names_are_unique_even_in_a_race(containers: Containers, config: Make) -> None:
    """Of many that want the same name at the same time exactly one gets it; the others leave nothing behind."""
    outcomes: list[str] = []
    barrier = threading.Barrier(8)

    def create() -> None:
        barrier.wait()
        try:
            with containers.create(config(), "same"):
                outcomes.append("made")
        except ConflictError:
            outcomes.append("conflict")

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["conflict"] * 7 + ["made"]
    assert [c.name for c in containers.list()] == ["same"]
    assert len(os.listdir(containers.directory)) == 2  # names/, and the one


def test_a_dead_name_is_free(containers: Containers, config: Make, tmp_path: Path) -> None:
    """A name whose container is gone (a crash between the two removals) can be taken again."""
    with containers.create(config(), "again") as made:
        pass
    made.directory.rename(tmp_path / "elsewhere")
    with containers.create(config(), "again") as other:
        assert containers.find("again") == other


@pytest.mark.parametrize("name", ["a", ".hidden", "../up", "a/b", "a b", "-x", "ä-b"])
def test_bad_names_are_refused(containers: Containers, config: Make, name: str) -> None:
    """A name is one that can be typed, and can't be a path; a refused one leaves nothing."""
    with pytest.raises(UsageError, match="invalid container name"), containers.create(config(), name):
        pass
    assert containers.list() == ()


def test_a_failed_config_leaves_nothing(containers: Containers) -> None:
    """If the options turn out wrong, there is neither a directory nor a name."""

    def refuse(id: str, name: str) -> ContainerConfig:
        raise UsageError("no")

    with pytest.raises(UsageError), containers.create(refuse, "wrong"):
        pass
    assert os.listdir(containers.directory) == ["names"]
    assert os.listdir(containers.directory / "names") == []


def test_locked_for_as_long_as_it_is_supervised(containers: Containers, config: Make) -> None:
    """The lock is held in the block of `create`, free after it, and `supervise` takes it once only."""
    with containers.create(config()) as made:
        assert is_locked(made.directory)
    assert not is_locked(made.directory)
    with containers.supervise(made):
        assert is_locked(made.directory)
        with pytest.raises(ConflictError, match="in use"), containers.supervise(made):
            pass


def test_running_without_a_supervisor_is_killed(containers: Containers, config: Make) -> None:
    """A container that was recorded as running, and that nobody supervises, has status 137 and says why."""
    with containers.create(config()) as made:
        made.record(Status(RUNNING, 1.0, pid=42, supervisor=41, started=1.0))
        assert made.status().state == RUNNING
    for status in (made.status(), made.wait()):
        assert (status.state, status.code, status.error, status.pid) == (
            EXITED,
            137,
            "layersmith was killed",
            0,
        )
    with pytest.raises(ConflictError, match="not running"):
        made.running()


def test_a_torn_status_line_does_not_count(containers: Containers, config: Make) -> None:
    """A line that a crash cut short is as if it were not there."""
    with containers.create(config()) as made:
        made.record(Status(EXITED, 2.0, code=3))
        with (made.directory / "status").open("a") as file:
            file.write('{"state": "runn')
        assert made.status() == Status(EXITED, 2.0, code=3)


def test_wait_sees_the_status_of_a_removed_container(
    containers: Containers, config: Make, tmp_path: Path
) -> None:
    """Whoever waits for a --rm container learns its status, though it is gone by then."""
    codes: list[int] = []
    with containers.create(config()) as made:
        waiting = threading.Thread(target=lambda: codes.append(made.wait().code))
        waiting.start()
        while not _waited_for(made):
            pass
        made.record(Status(EXITED, 2.0, code=7))
        containers.remove(made, lambda path: path.rename(tmp_path / "trash"))
    waiting.join(5)
    assert codes == [7]
    with pytest.raises(NotFoundError, match="was removed"):
        made.wait()


def _waited_for(container: Container) -> bool:
    """Whether some thread has the status file open."""
    wanted = container.directory / "status"
    return any(
        Path(f"/proc/self/fd/{fd}").exists() and Path(f"/proc/self/fd/{fd}").readlink() == wanted
        for fd in os.listdir("/proc/self/fd")
    )


def test_sweep_takes_the_dead_and_spares_the_living(
    containers: Containers, config: Make, tmp_path: Path
) -> None:
    """Unfinished containers and --rm ones without a supervisor go, with their names; all others stay."""
    trashed: list[str] = []

    def trash(path: Path) -> None:
        trashed.append(path.name)
        path.rename(tmp_path / path.name)

    unfinished = containers.directory / ("f" * 64)
    with containers.create(config(auto_remove=True), "alive") as alive:
        with containers.create(config(auto_remove=True), "dead") as dead:
            pass
        with containers.create(config(), "kept") as kept:
            pass
        unfinished.mkdir()
        containers.sweep(trash)
        assert sorted(trashed) == sorted([dead.id, unfinished.name])
        assert {c.name for c in containers.list()} == {"alive", "kept"}
        assert sorted(os.listdir(containers.directory / "names")) == ["alive", "kept"]
        assert {alive.id, kept.id} == {c.id for c in containers.list()}


def test_a_damaged_config_names_its_directory(containers: Containers, config: Make) -> None:
    """A damaged container is an error that says what to remove, not a traceback."""
    with containers.create(config(), "hurt") as made:
        (made.directory / "config.json").write_bytes(b"{")
    with pytest.raises(StoreError, match="damaged") as failure:
        containers.find("hurt")
    assert str(made.directory) in failure.value.hint
    told: list[StoreError] = []
    with containers.create(config(), "whole") as whole:
        assert containers.list(told.append) == (whole,)
    assert len(told) == 1


def test_images_in_use_are_known(containers: Containers, config: Make) -> None:
    """The manifests of all containers are reported, for prune and rmi to spare."""
    with containers.create(config(), "user") as made:
        pass
    assert containers.images() == {made.config.manifest.digest: "user"}


def test_no_store_has_no_containers(tmp_path: Path) -> None:
    """Listing where nothing was ever stored makes nothing, and finds nothing."""
    assert Containers(tmp_path / "none").list() == ()
    assert not (tmp_path / "none").exists()
