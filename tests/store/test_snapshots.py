"""Snapshots and the cache: records that are only there with what they stand for."""

from pathlib import Path

import pytest
from unfinished import unfinished

from layersmith.oci import mediatype
from layersmith.oci.descriptor import Descriptor, Layer
from layersmith.oci.digest import DiffID, digest_of
from layersmith.store import Record, Store

KEY = digest_of(b"layer")


def test_commit_renames_nothing(store: Store) -> None:
    """The directory that was filled is the snapshot, under the same path."""
    pending = store.snapshots.create()
    (pending.path / "file").write_text("x")
    assert store.snapshots.find(KEY) is None
    assert store.snapshots.commit(pending, KEY) == pending.path == store.snapshots.find(KEY)
    assert pending.work.is_dir() and pending.work.stat().st_dev == pending.path.stat().st_dev


def test_the_first_commit_wins(store: Store) -> None:
    """A second directory for the same key is left to be discarded."""
    one, two = store.snapshots.create(), store.snapshots.create()
    assert store.snapshots.commit(one, KEY) == one.path
    assert store.snapshots.commit(two, KEY) == one.path
    store.snapshots.discard(two)
    assert not two.path.exists() and one.path.exists()
    assert [snapshot.key for snapshot in store.snapshots.list()] == [KEY]


def test_a_snapshot_outlives_its_process_and_a_pending_one_does_not(root: Path) -> None:
    """Closing the store removes what was not committed."""
    with Store.open(root) as store:
        kept, lost = store.snapshots.create(), store.snapshots.create()
        store.snapshots.commit(kept, KEY)
    assert not lost.path.exists()
    with Store.open(root) as store:
        assert store.snapshots.find(KEY) == kept.path
        assert unfinished(root) == [store.session.directory]


def test_a_lost_directory_is_no_snapshot(store: Store) -> None:
    """find forgets a record whose directory somebody removed, and commit replaces it."""
    pending = store.snapshots.create()
    store.snapshots.commit(pending, KEY)
    pending.path.rmdir()
    assert store.snapshots.find(KEY) is None
    again = store.snapshots.create()
    assert store.snapshots.commit(again, KEY) == again.path == store.snapshots.find(KEY)


def test_snapshots_of_an_earlier_boot_are_only_trusted_if_somebody_vouches(root: Path) -> None:
    """After a power failure files may be empty; without a check the layer is unpacked anew."""
    with Store.open(root) as store:
        for key in ("a", "b", "c"):
            store.snapshots.commit(store.snapshots.create(), key)
        store.db.execute("UPDATE snapshots SET boot = 'earlier'")
    with Store.open(root) as store:
        assert store.snapshots.find("a") is None
        assert store.snapshots.find("b", whole=lambda path: False) is None
        asked: list[Path] = []
        path = store.snapshots.find("c", whole=lambda path: not asked.append(path))
        assert path is not None and asked == [path]
        assert store.snapshots.find("c") == path
        assert [snapshot.key for snapshot in store.snapshots.list()] == ["c"]


def test_remove(store: Store) -> None:
    """A removed snapshot is out of the way at once."""
    path = store.snapshots.commit(store.snapshots.create(), KEY)
    store.snapshots.remove(KEY)
    store.snapshots.remove(KEY)
    assert not path.exists() and store.snapshots.find(KEY) is None


def a_layer(store: Store, data: bytes = b"blob") -> Layer:
    store.blobs.put(data)
    return Layer(Descriptor.of(mediatype.OCI_LAYER_ZSTD, data), DiffID(KEY))


def test_cache_round_trip(root: Path) -> None:
    """A record comes back in another process, with all that went into its key."""
    with Store.open(root) as store:
        layer = a_layer(store)
        store.cache.put("key", Record(layer, {"args": ["a"], "env": {"B": "c"}}, step="RUN a"))
        store.cache.put("none", Record(None))
    with Store.open(root) as store:
        record = store.cache.get("key")
        assert record is not None
        assert (record.layer, record.inputs, record.step) == (
            layer,
            {"args": ["a"], "env": {"B": "c"}},
            "RUN a",
        )
        assert record.created > 1e9
        empty = store.cache.get("none")
        assert empty is not None and empty.layer is None
        assert store.cache.get("other") is None


def test_a_record_without_its_blob_is_none(store: Store) -> None:
    """A hit always has its layer."""
    layer = a_layer(store)
    store.cache.put("key", Record(layer))
    store.blobs.path(layer.descriptor.digest).unlink()
    assert store.cache.get("key") is None
    assert store.cache.list() == ()


def test_nearest_is_the_latest_of_a_step(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """explain compares with the last time the step ran."""
    clock = iter([10.0, 30.0, 20.0])
    monkeypatch.setattr("layersmith.store.cache.time.time", lambda: next(clock))
    for key in ("one", "two", "three"):
        store.cache.put(key, Record(None, {"which": key}, step="RUN make"))
    nearest = store.cache.nearest("RUN make")
    assert nearest is not None and nearest.inputs == {"which": "two"}
    assert store.cache.nearest("RUN other") is None
