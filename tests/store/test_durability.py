"""What killed processes, full disks, damaged files and other versions do to a store: nothing that matters."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from unfinished import unfinished

from layersmith.errors import StoreError
from layersmith.oci.descriptor import Descriptor
from layersmith.oci.digest import digest_of
from layersmith.store import Record, Store
from layersmith.store.database import Database
from layersmith.store.files import spread_children
from layersmith.store.fsck import fsck
from layersmith.store.gc import prune

WRITER = """
    import random, sys
    from pathlib import Path
    from layersmith.oci.descriptor import Descriptor, Layer
    from layersmith.oci.digest import DiffID
    from layersmith.store import Record, Store

    with Store.open(Path(sys.argv[1])) as store:
        generator = random.Random(sys.argv[2])
        print("ready", flush=True)
        while True:
            data = generator.randbytes(generator.randrange(1, 2_000_000))
            pending = store.snapshots.create()
            for number in range(20):
                (pending.path / str(number)).write_bytes(data[:100])
            digest = store.blobs.put(data)
            store.snapshots.commit(pending, digest)
            layer = Layer(Descriptor("application/octet-stream", digest, len(data)), DiffID(digest))
            store.cache.put(digest, Record(layer, {"n": 1}, step="step"))
            store.refs.set(f"n:{generator.randrange(5)}", layer.descriptor)
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def kill(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_kill_at_any_moment_leaves_only_whole_things(root: Path) -> None:
    """Two writers, killed again and again: every blob is what its name says, every record has its blob, and the next
    open sweeps the rest."""
    generator = random.Random(5)
    for turn in range(10):
        writers = [start(WRITER, root, f"{turn}-{number}") for number in range(2)]
        for writer in writers:
            assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
        time.sleep(generator.random() * 0.1)
        for writer in writers:
            kill(writer)
        with Store.open(root) as store:
            problems = [problem for problem in fsck(store) if "media type" not in problem.message]
            assert problems == []
            store.tidy()
            assert unfinished(root) == [store.session.directory] * store.session.started
    with Store.open(root) as store:
        assert len(list(store.blobs.list())) > 10
        assert all(len(list(snapshot.path.iterdir())) == 20 for snapshot in store.snapshots.list())


KEEPER = """
    import random, sys
    from pathlib import Path
    from layersmith.oci.descriptor import Descriptor, Layer
    from layersmith.oci.digest import DiffID
    from layersmith.store import Record, Store

    generator = random.Random(sys.argv[2])
    print("ready", flush=True)
    while True:
        with Store.open(Path(sys.argv[1])) as store:
            for _ in range(5):
                data = generator.randbytes(1000)
                digest = store.blobs.put(data)
                layer = Layer(Descriptor("application/octet-stream", digest, len(data)), DiffID(digest))
                store.cache.put(digest, Record(layer))
                pending = store.snapshots.create()
                (pending.path / "file").write_bytes(data)
                store.snapshots.commit(pending, digest)
                for _ in range(20):
                    assert store.blobs.read(layer.descriptor) == data
                    assert (store.snapshots.find(digest) / "file").read_bytes() == data
        print("round", flush=True)
"""

PRUNER = """
    import sys
    from pathlib import Path
    from layersmith.store import Store
    from layersmith.store.gc import prune

    print("ready", flush=True)
    while True:
        with Store.open(Path(sys.argv[1])) as store:
            prune(store, all=True)
"""


def test_prune_never_takes_what_is_in_use_and_may_be_killed(root: Path) -> None:
    """One process makes and uses things while another removes everything unused; both are killed in the middle."""
    generator = random.Random(6)
    Store.open(root).close()
    for turn in range(6):
        keeper, pruner = start(KEEPER, root, turn), start(PRUNER, root)
        for process in (keeper, pruner):
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
        assert keeper.stdout is not None and keeper.stdout.readline() == "round\n", "a keeper lost something"
        time.sleep(generator.random() * 0.1)
        assert keeper.poll() is None and pruner.poll() is None
        kill(pruner)
        kill(keeper)
        with Store.open(root) as store:
            assert fsck(store) == ()
    with Store.open(root) as store:
        prune(store, all=True)
        assert list(store.blobs.list()) == [] and store.snapshots.list() == ()
        assert list((root / "snapshots").iterdir()) == [] and fsck(store) == ()


def test_a_live_process_is_not_swept(root: Path) -> None:
    """What another process is writing survives an open; what it had begun is gone once it was killed."""
    holder = start(
        """
        import sys
        from pathlib import Path
        from layersmith.store import Store
        store = Store.open(Path(sys.argv[1]))
        pending = store.snapshots.create()
        print(store.temporary("x"), pending.path, flush=True)
        sys.stdin.read()
        """,
        root,
    )
    assert holder.stdout is not None
    temporary, pending = map(Path, holder.stdout.readline().split())
    Store.open(root).close()
    assert temporary.is_dir() and pending.is_dir()
    kill(holder)
    Store.open(root).close()
    assert not temporary.exists() and not pending.exists()
    assert unfinished(root) == []


def test_many_processes_make_one_store(root: Path) -> None:
    """Started together on a directory that does not exist, all succeed and see each other's work."""
    code = """
        import sys
        from pathlib import Path
        from layersmith.oci.descriptor import Descriptor
        from layersmith.store import Record, Store
        with Store.open(Path(sys.argv[1])) as store:
            for number in range(20):
                store.blobs.put(b"shared %d" % number)
                store.cache.put(f"{sys.argv[2]}-{number}", Record(None))
            store.refs.set(f"name:{sys.argv[2]}", Descriptor.of("x/y", b"shared 1"))
    """
    processes = [start(code, root, number) for number in range(5)]
    assert [process.wait() for process in processes] == [0] * 5
    for process in processes:
        process.communicate()
    with Store.open(root) as store:
        assert len(list(store.blobs.list())) == 20
        assert len(store.cache.list()) == 100
        assert len(store.refs.list()) == 5


def test_locks_exclude_and_are_freed_by_a_kill(root: Path) -> None:
    """A lock held by another process is busy; its death frees it. Threads exclude each other, too."""
    holder = start(
        """
        import sys
        from pathlib import Path
        from layersmith.store import Store
        with Store.open(Path(sys.argv[1])) as store, store.lock("a/b"):
            print("held", flush=True)
            sys.stdin.read()
        """,
        root,
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with Store.open(root) as store:
        with pytest.raises(StoreError, match="locked"), store.lock("a/b", wait=False):
            pass
        with pytest.raises(StoreError), store.lock("a/b", wait=False, shared=True):
            pass
        kill(holder)
        with store.lock("a/b"), pytest.raises(StoreError), store.lock("a/b", wait=False):
            pass
        with store.lock("a/b", shared=True), store.lock("a/b", shared=True, wait=False):
            pass
        order: list[int] = []

        def work(number: int) -> None:
            with store.lock("order"):
                order.append(number)
                time.sleep(0.01)
                order.append(number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert order[::2] == order[1::2]


def test_a_newer_store_is_refused(root: Path) -> None:
    """Whether the newer version is in the file's header or still in the WAL, nothing is touched."""
    with Store.open(root) as store:
        store.cache.put("key", Record(None))
    connection = sqlite3.connect(root / "layersmith.db")
    connection.execute("PRAGMA user_version=999")
    with Store(root) as unaware, pytest.raises(StoreError, match="999"):
        unaware.cache.get("key")
    connection.close()
    with pytest.raises(StoreError, match="version 999") as caught:
        Store.open(root)
    assert "newer" in caught.value.hint


@pytest.mark.parametrize("size", [0, 1, 100, 4096, 5000, 20000])
def test_a_truncated_database_is_an_error_or_empty_and_heals(root: Path, size: int) -> None:
    """The store still opens, its images are there, and --repair makes the rest work again."""
    with Store.open(root) as store:
        digest = store.blobs.put(b"x")
        store.refs.set("demo", Descriptor.of("x/y", b"x"))
        for number in range(100):
            store.cache.put(str(number), Record(None, {"x": "y" * 100}))
        store.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    os.truncate(root / "layersmith.db", size)
    with Store.open(root) as store:
        assert store.refs.get("demo") is not None and store.blobs.has(digest)
        if size > 1:  # SQLite takes less for a new file
            with pytest.raises(StoreError, match=r"layersmith\.db"):
                store.cache.put("key", Record(None))
                for number in range(100):
                    store.cache.get(str(number))
            fsck(store, repair=True)
        store.cache.put("key", Record(None))
        assert store.cache.get("key") is not None
        assert [problem for problem in fsck(store) if problem.kind == "database"] == []


FULL = """
    import resource, sys
    from pathlib import Path
    from layersmith.errors import StoreError
    from layersmith.oci.digest import digest_of
    from layersmith.store import Store

    data = bytes(3_000_000)
    with Store.open(Path(sys.argv[1])) as store:
        store.blobs.put(b"before")
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
        try:
            store.blobs.put(data)
        except StoreError as error:
            assert "no space" in error.message and "prune" in error.hint, error
            assert not store.blobs.has(digest_of(data))
            print("refused")
"""


def test_a_write_that_does_not_fit_is_a_clear_error(root: Path) -> None:
    """A file that may not grow (as on a full disk) leaves no half blob and says what to do."""
    process = start(FULL, root)
    assert process.communicate()[0] == "refused\n"
    with Store.open(root) as store:
        assert fsck(store) == ()
        assert list(store.blobs.list()) == [digest_of(b"before")]


SMALL_DISK = """
    import sys
    from pathlib import Path
    from layersmith.errors import StoreError
    from layersmith.oci.descriptor import Descriptor
    from layersmith.store import Record, Store
    from layersmith.store.fsck import fsck
    from layersmith.store.gc import prune

    root = Path(sys.argv[1]) / "root"
    kept = bytes(50_000)
    with Store.open(root) as store:
        store.blobs.put(kept)
        store.refs.set("demo", Descriptor.of("x/y", kept))
    errors = 0
    with Store.open(root) as store:
        for number in range(100):
            try:
                store.blobs.put(bytes([number]) * 50_000)
                store.cache.put(str(number), Record(None, {"x": "y" * 10_000}))
                store.refs.set(f"n:{number % 3}", Descriptor.of("x/y", b""))
            except StoreError as error:
                errors += "no space" in error.message
    with Store.open(root) as store:
        assert errors > 20, errors
        assert store.blobs.read(Descriptor.of("x/y", kept)) == kept
        assert store.refs.get("demo") is not None
        bad = [problem for problem in fsck(store) if problem.kind in ("blob", "database", "index")]
        assert bad == [], bad
        prune(store, all=True)
    with Store.open(root) as store:
        store.blobs.put(b"again" * 10_000)
        print("fine")
"""


@pytest.mark.root
def test_a_full_disk(tmp_path: Path) -> None:
    """On a file system that fills up, each write works or says so; reading, fsck and prune work, and then there is
    room again."""
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "small", small], check=True)
    try:
        process = start(SMALL_DISK, small)
        assert process.communicate()[0] == "fine\n"
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_read_only_store_is_readable(root: Path) -> None:
    """Everything can be read; every write is refused with a hint."""
    with Store.open(root) as store:
        digest = store.blobs.put(b"x")
        store.refs.set("demo", Descriptor.of("x/y", b"x"))
        store.cache.put("key", Record(None))
    with Store(root, readonly=True) as store:
        assert store.blobs.has(digest) and store.blobs.read(Descriptor.of("x/y", b"x")) == b"x"
        assert store.refs.get("demo") is not None
        assert store.cache.get("key") is not None
        for write in (
            lambda: store.blobs.put(b"y"),
            lambda: store.refs.set("other", Descriptor.of("x/y", b"x")),
            lambda: store.cache.put("other", Record(None)),
            lambda: store.temporary("x"),
            lambda: store.snapshots.create(),
        ):
            with pytest.raises(StoreError, match="read-only") as caught:
                write()
            assert "--root" in caught.value.hint


@pytest.mark.root
def test_a_store_on_a_read_only_mount_opens(root: Path, tmp_path: Path) -> None:
    """Opening finds out by itself that nothing can be written."""
    with Store.open(root) as store:
        store.refs.set("demo", Descriptor.of("x/y", b"x"))
    view = tmp_path / "view"
    view.mkdir()
    subprocess.run(["mount", "--bind", root, view], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", view], check=True)
        with Store.open(view) as store:
            assert store.readonly and store.refs.get("demo") is not None and store.cache.list() == ()
            with pytest.raises(StoreError, match="read-only"):
                store.refs.set("demo:2", Descriptor.of("x/y", b"x"))
    finally:
        subprocess.run(["umount", view], check=True)


def test_a_foreign_directory_is_not_taken_over(tmp_path: Path) -> None:
    """--root /home by mistake changes nothing there."""
    (tmp_path / "precious").write_text("x")
    with pytest.raises(StoreError, match="neither"):
        Store.open(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
    with pytest.raises(StoreError, match="not a directory"):
        Store.open(tmp_path / "precious")
    with pytest.raises(StoreError, match="no store"):
        Store.open(tmp_path / "none", create=False)


def test_default_roots(monkeypatch: pytest.MonkeyPatch) -> None:
    """$LAYERSMITH_ROOT, else the place for root, else the user's data directory."""
    from layersmith.store import default_root

    monkeypatch.setenv("LAYERSMITH_ROOT", "/some/where")
    assert default_root() == Path("/some/where")
    monkeypatch.delenv("LAYERSMITH_ROOT")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_root() == Path("/var/lib/layersmith")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", "/xdg")
    assert default_root() == Path("/xdg/layersmith")


def test_a_deep_tree_is_removed(store: Store) -> None:
    """Depth costs neither stack nor descriptors, and the time limit is kept without losing track."""
    top = store.temporary("deep")
    here = os.open(top, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    store.trash(top)
    assert not top.exists()
    assert not store.tidy(seconds=-1)
    assert store.tidy()
    assert unfinished(store.root) == [store.session.directory]


def test_snapshots_are_spread_over_the_disk(root: Path, tmp_path: Path) -> None:
    """On ext4 the snapshots' directory has the T attribute; where there is none, the store works all the same."""
    with Store.open(root) as store:
        shown = subprocess.run(["lsattr", "-d", store.root / "snapshots"], capture_output=True, text=True)
    if shown.returncode:
        pytest.skip(f"needs a file system with attributes: {shown.stderr.strip()}")
    kind = subprocess.run(["stat", "-f", "-c", "%T", root], capture_output=True, text=True, check=True)
    if "ext" not in kind.stdout:
        pytest.skip(f"needs ext4, here is {kind.stdout.strip()}")
    assert "T" in shown.stdout.split()[0]
    spread_children(Path("/proc/self"))


def test_builds_that_begin_together_in_a_new_store(root: Path) -> None:
    """The database is made once, and whoever comes meanwhile waits for that: SQLite itself would refuse it at once."""
    with Store.open(root):
        pass
    failures: list[StoreError] = []
    together = threading.Barrier(4)

    def use(path: Path) -> None:
        database = Database(path)
        together.wait()
        try:
            database.execute("SELECT count(*) FROM cache")
        except StoreError as error:
            failures.append(error)
        database.close()

    for number in range(50):
        users = [threading.Thread(target=use, args=(root / f"{number}.db",)) for _ in range(4)]
        for user in users:
            user.start()
        for user in users:
            user.join()
    assert not failures
