"""prune removes what nobody needs and nothing else; fsck finds and repairs every kind of damage."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from layersmith.image import SCRATCH, Image
from layersmith.oci import mediatype
from layersmith.oci.config import History
from layersmith.oci.descriptor import Descriptor, Layer
from layersmith.oci.digest import DiffID, digest_of
from layersmith.store import Record, Store
from layersmith.store.cache import Cache
from layersmith.store.files import DiskFullError
from layersmith.store.fsck import fsck
from layersmith.store.gc import disk_usage, prunable, prune


def a_layer(store: Store, name: str) -> Layer:
    """A layer in all its forms: blob, snapshot, index."""
    data = name.encode() * 10_000
    store.blobs.put(data)
    layer = Layer(Descriptor.of(mediatype.OCI_LAYER, data), DiffID(digest_of(data)))
    pending = store.snapshots.create()
    (pending.path / name).write_bytes(data)
    store.snapshots.commit(pending, layer.diff_id)
    (store.layers / f"{layer.diff_id[7:]}.index").write_bytes(b"index")
    return layer


def an_image(store: Store, *names: str) -> Descriptor:
    image: Image = SCRATCH()
    for name in names:
        image = image.append(a_layer(store, name), History(created_by=name))
    return image.write(store)


def is_there(store: Store, layer: Layer) -> tuple[bool, bool, bool]:
    keys = [snapshot.key for snapshot in store.snapshots.list()]
    return (
        store.blobs.path(layer.descriptor.digest).exists(),
        layer.diff_id in keys,
        (store.layers / f"{layer.diff_id[7:]}.index").exists(),
    )


WHOLE, GONE = (True, True, True), (False, False, False)


def test_prune_keeps_named_images_and_cached_layers(root: Path) -> None:
    """Names and records hold what they need; the rest goes, in all its forms."""
    with Store.open(root) as store:
        store.refs.set("demo", an_image(store, "a", "b"))
        store.refs.keep(an_image(store, "unnamed"))
        cached, orphan = a_layer(store, "cached"), a_layer(store, "orphan")
        store.cache.put("key", Record(cached))
    with Store.open(root) as store:
        before = sum(usage.size for usage in disk_usage(store).values())
        planned = prune(store, dry_run=True)
        assert is_there(store, orphan) == WHOLE
        report = prune(store)
        assert report == planned
        assert is_there(store, orphan) == GONE and is_there(store, cached) == WHOLE
        assert [name for name, _ in store.refs.list()] == ["demo:latest"]
        assert {item.kind for item in report.removed} == {"image", "blob", "snapshot", "index"}
        after = sum(usage.size for usage in disk_usage(store).values())
        assert 0 < report.freed <= before - after + 65536
        assert fsck(store) == ()
        assert Image.read(store, store.refs.resolve("demo")).layers
        assert prune(store).removed == ()


def test_prune_all_drops_the_cache(root: Path) -> None:
    """With all=True only what images need is left."""
    with Store.open(root) as store:
        store.refs.set("demo", an_image(store, "a"))
        cached = a_layer(store, "cached")
        shared = Image.read(store, store.refs.resolve("demo")).layers[0]
        store.cache.put("one", Record(cached))
        store.cache.put("two", Record(shared))
    with Store.open(root) as store:
        prune(store, all=True)
        assert store.cache.list() == ()
        assert is_there(store, cached) == GONE and is_there(store, shared) == WHOLE


def test_prune_until_spares_what_was_used_later(root: Path) -> None:
    """Records by their last use, files by their time."""
    with Store.open(root) as store:
        old, new = a_layer(store, "old"), a_layer(store, "new")
        store.cache.put("old", Record(old))
        store.cache.put("new", Record(new))
        store.db.execute("UPDATE cache SET used = 100 WHERE key = 'old'")
        store.db.execute("UPDATE snapshots SET used = 100 WHERE key = ?", (old.diff_id,))
    import os

    for path in (
        root / "blobs/sha256" / old.descriptor.digest[7:],
        root / "layers" / f"{old.diff_id[7:]}.index",
    ):
        os.utime(path, (100, 100))
    with Store.open(root) as store:
        prune(store, until=200)
        assert [record.key for record, _ in store.cache.list()] == ["new"]
        assert is_there(store, old) == GONE and is_there(store, new) == WHOLE


def test_prune_to_a_size_drops_the_longest_unused_first(root: Path) -> None:
    """keep_storage takes records away in the order of their last use until it fits."""
    with Store.open(root) as store:
        layers = {name: a_layer(store, name) for name in "abcde"}
        for used, (name, layer) in enumerate(layers.items()):
            store.cache.put(name, Record(layer))
            store.db.execute("UPDATE cache SET used = ? WHERE key = ?", (used, name))
        store.refs.set("demo", SCRATCH().append(layers["a"], History()).write(store))
    with Store.open(root) as store:
        usage = disk_usage(store)
        total = usage["blobs"].size + usage["snapshots"].size + usage["indexes"].size
        assert prune(store, keep_storage=total).removed == ()
        prune(store, keep_storage=total - 10_000)
        assert [record.key for record, _ in store.cache.list()] == ["c", "d", "e"]
        assert is_there(store, layers["a"]) == WHOLE, (
            "an image needs it, so dropping its record freed nothing"
        )
        assert is_there(store, layers["b"]) == GONE
        prune(store, keep_storage=0)
        assert store.cache.list() == () and is_there(store, layers["a"]) == WHOLE


def test_prune_spares_what_a_running_process_uses(root: Path) -> None:
    """A process that has an image open keeps it whole, even when its name is gone; afterwards it goes."""
    with Store.open(root) as store:
        image = an_image(store, "a", "b")
        store.refs.set("demo", image)
        layers = Image.read(store, image).layers
    user = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(
                """
                import sys
                from pathlib import Path
                from layersmith.image import Image
                from layersmith.store import Store
                with Store.open(Path(sys.argv[1])) as store:
                    image = Image.read(store, store.refs.resolve("demo"))
                    print("read", flush=True)
                    sys.stdin.read()
                    for layer in image.layers:
                        assert store.snapshots.find(layer.diff_id) is not None
                        assert store.blobs.read(layer.descriptor)
                    store.refs.set("again", image.write(store))
                """
            ),
            str(root),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert user.stdout is not None and user.stdout.readline() == "read\n"
    with Store.open(root) as store:
        store.refs.delete("demo")
        prune(store, all=True)
        assert [is_there(store, layer) for layer in layers] == [WHOLE, WHOLE]
    user.communicate()
    assert user.returncode == 0
    with Store.open(root) as store:
        assert fsck(store) == ()
    with Store.open(root) as store:
        store.refs.delete("again")
        prune(store)
        assert [is_there(store, layer) for layer in layers] == [GONE, GONE]


def test_prune_spares_pending_snapshots_and_what_it_is_told(root: Path) -> None:
    """A directory that is just being filled is no orphan; containers may name what they need."""
    with Store.open(root) as store:
        kept, lost = a_layer(store, "kept"), a_layer(store, "lost")
    with Store.open(root) as store:
        pending = store.snapshots.create()
        prune(store, all=True, keep=[kept.diff_id])
        assert pending.path.is_dir()
        assert is_there(store, kept)[1:] == (True, True) and is_there(store, lost) == GONE


def test_fsck_names_and_repairs_each_kind_of_damage(root: Path) -> None:
    """Every damage is found by its kind and name; repairing leaves a store without problems."""
    with Store.open(root) as store:
        good = an_image(store, "good")
        store.refs.set("good", good)
        bad = an_image(store, "bad")
        store.refs.set("bad", bad)
        (broken,) = Image.read(store, bad).layers
        cached = a_layer(store, "cached")
        store.cache.put("key", Record(cached))
        lost = a_layer(store, "lost")
        assert fsck(store) == ()
        path = store.blobs.path(broken.descriptor.digest)
        path.write_bytes(b"X" + path.read_bytes()[1:])
        store.blobs.path(cached.descriptor.digest).unlink()
        (root / "snapshots" / "stray").mkdir()
        (root / "blobs" / "sha256" / "junk").write_text("x")
        snapshot = store.snapshots.find(lost.diff_id)
        assert snapshot is not None
        store.trash(snapshot)
        found = {(problem.kind, problem.name) for problem in fsck(store)}
        assert found == {
            ("blob", broken.descriptor.digest),
            ("blob", "junk"),
            ("cache", "key"),
            ("snapshot", "stray"),
            ("snapshot", lost.diff_id),
        }
        repaired = fsck(store, repair=True)
        assert all(problem.repaired for problem in repaired)
        assert ("image", "bad:latest") in {(problem.kind, problem.name) for problem in repaired}
        assert fsck(store) == ()
        assert [name for name, _ in store.refs.list()] == ["good:latest"]


def test_fsck_asks_about_the_files_of_snapshots(store: Store) -> None:
    """Whoever knows layers says whether a snapshot is whole; one that is not is dropped."""
    layer = a_layer(store, "a")
    assert fsck(store, check_snapshot=lambda snapshot: "") == ()
    (problem,) = fsck(store, check_snapshot=lambda snapshot: "file is missing", repair=True)
    assert (problem.name, problem.message) == (layer.diff_id, "file is missing")
    assert store.snapshots.find(layer.diff_id) is None


@pytest.mark.parametrize("damage", [b"", b"{", b'{"schemaVersion":1}', None])
def test_fsck_repairs_the_index(store: Store, damage: bytes | None) -> None:
    """A broken index.json is replaced by an empty one."""
    path = store.root / "index.json"
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage)
    assert [problem.kind for problem in fsck(store, repair=True)] == ["index"]
    assert fsck(store) == ()
    store.refs.set("demo", an_image(store))
    assert fsck(store) == ()


def a_mount(store: Store, id: str, used: float) -> Path:
    """A cache mount of 20,000 bytes, last used at ``used``."""

    def create(path: Path) -> None:
        path.mkdir()
        (path / "file").write_bytes(b"x" * 20_000)

    with store.mounts.hold(id, None, "shared", create) as path:
        pass
    os.utime(path.parent / "id", (used, used))
    return path


def test_prune_takes_cache_mounts_by_age(root: Path) -> None:
    """All with --all, those unused since --until, the longest unused for --keep-storage; none that a step has."""
    with Store.open(root) as store:
        old, new, busy = a_mount(store, "old", 1000), a_mount(store, "new", 3000), a_mount(store, "busy", 1)
        with store.mounts.hold("busy", None, "locked", lambda path: None):
            prune(store)
            assert old.exists()
            report = prune(store, until=2000, dry_run=True)
            assert [item.name for item in report.removed if item.kind == "mount"] == ["old"]
            prune(store, keep_storage=prunable(store) - 1)
            assert (old.exists(), new.exists(), busy.exists()) == (False, True, True)
            prune(store, all=True)
            assert (new.exists(), busy.exists()) == (False, True)
        prune(store, all=True)
        assert not busy.exists()
        assert not store.mounts.list()


def test_a_committed_snapshot_outlives_what_fails_after_it(root: Path) -> None:
    """A full disk between commit and record: the directory that the record speaks of stays."""
    with Store.open(root) as store:
        pending = store.snapshots.create()
        path = store.snapshots.commit(pending, "sha256:" + "1" * 64)
        store.snapshots.discard(pending)
        assert path.is_dir()
        assert not [p for p in fsck(store) if p.kind == "snapshot"]


@pytest.mark.parametrize("first", ["cache.delete", "refs.forget"])
def test_a_prune_killed_on_a_full_disk_is_finished_by_the_next_command(
    root: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """There files go before records and index; a kill between the two leaves nothing that speaks of what is gone."""

    class Killed(BaseException):
        pass

    def refuse(what: object) -> None:
        raise DiskFullError("no space left") if not moved else Killed

    moved: list[bool] = []
    with Store.open(root) as store:
        store.cache.put("key", Record(a_layer(store, "cached")))
        kept = a_layer(store, "kept")
        store.refs.set("kept", SCRATCH().append(kept, History(created_by="kept")).write(store))
        store.refs.keep(an_image(store, "unnamed"))
    with Store.open(root) as store:
        tidy = store.tidy
        monkeypatch.setattr(store, "tidy", lambda *a: (moved.append(True), tidy(*a)))
        part, _, method = first.partition(".")
        monkeypatch.setattr(getattr(store, part), method, refuse)
        with pytest.raises(Killed):
            prune(store, all=True)
        monkeypatch.undo()
    with Store.open(root) as store:
        assert not fsck(store)
        assert not list(store.cache.list())
        assert [name for name, _ in store.refs.list()] == ["kept:latest"]
        assert is_there(store, kept) == WHOLE
        assert not (store.root / "locks" / "files-first").exists()


def test_the_next_command_finishes_a_prune_where_the_disk_is_still_full(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It makes room first: by the unfinished files of dead processes, then by the database's reserve."""
    with Store.open(root) as store:
        layer = a_layer(store, "cached")
        store.cache.put("key", Record(layer))
        store.blobs.path(layer.descriptor.digest).unlink()
    (root / "locks" / "files-first").touch()
    dead = root / "tmp" / "session-dead"
    dead.mkdir()
    (dead / "blob-0").write_bytes(b"x")
    reserve = root / "locks" / "reserve"
    assert reserve.exists()
    delete = Cache.delete

    def on_a_full_disk(cache: Cache, key: str) -> None:
        assert not (dead / "blob-0").exists()
        if reserve.exists():
            raise DiskFullError("no space left")
        delete(cache, key)

    monkeypatch.setattr(Cache, "delete", on_a_full_disk)
    with Store.open(root) as store:
        assert not list(store.cache.list())
        assert not fsck(store)
    assert not (root / "locks" / "files-first").exists()
