"""`Store`: everything on disk. In: a root directory. Out: blobs, names, snapshots, cache records, locks, scratch space.

    oci-layout  index.json  blobs/sha256/   an OCI image layout: the root itself can be read by any tool that knows one
    snapshots/<random>/, <random>.erofs     unpacked layers: directories, or images of file systems
    layers/<DiffID>.index                   file indexes of layers
    cache/                                  cache mounts
    builds/<id>/                            the record, logs and failed steps of a build
    recall/<key>.json                       what the image of an all-cached build depended on
    tmp/                                    the unfinished, a locked directory per process, and what awaits deletion
    locks/                                  flock files
    layersmith.db                           records

Opening is cheap: three system calls in an existing store that nobody crashed in; SQLite waits for its first use.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from layersmith.errors import StoreError
from layersmith.oci.document import canonical
from layersmith.oci.manifest import Index
from layersmith.store import hollow
from layersmith.store.blobs import Blobs
from layersmith.store.builds import Builds
from layersmith.store.cache import Cache
from layersmith.store.database import Database
from layersmith.store.files import (
    explained,
    make_directory,
    remove_tree,
    replace_file,
    spread_children,
    storing,
)
from layersmith.store.gc import DEAD, clear_session, sweep
from layersmith.store.locks import locked
from layersmith.store.mounts import CacheMounts
from layersmith.store.refs import Refs
from layersmith.store.session import PRUNE_LOCK, Session
from layersmith.store.snapshots import Snapshots
from layersmith.store.statcache import StatCache

LAYOUT = canonical({"imageLayoutVersion": "1.0.0"})
_DIRECTORIES = ("blobs", "blobs/sha256", "snapshots", "layers", "cache", "remotes", "builds", "tmp", "locks")
_UNSAFE = re.compile(r"[^A-Za-z0-9_.+-]")
_TIDY_SECONDS = 0.5
MAX_LAYER_SIZE = 64 << 30
"""Bytes that a layer may have, uncompressed, holes of sparse files included: beyond, it is taken for a bomb."""


def default_root() -> Path:
    """``$LAYERSMITH_ROOT``, else ``/var/lib/layersmith`` for root and ``$XDG_DATA_HOME/layersmith`` for others."""
    if root := os.environ.get("LAYERSMITH_ROOT"):
        return Path(root)
    system = Path("/var/lib/layersmith")
    # Whoever is root only in a namespace that layersmith made for them is not the one who owns this.
    if os.geteuid() == 0 and os.access(system if system.exists() else system.parent, os.W_OK):
        return system
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser() / "layersmith"


class Store:
    """A store; a context manager. Any number of processes and threads may use one root at the same time.

    Open it in the process that uses it: a forked child shares the locks of its parent until it ends or execs.
    """

    def __init__(self, root: Path, *, readonly: bool = False) -> None:
        self.root = root
        self.readonly = readonly
        self.tmp = root / "tmp"
        self.layers = root / "layers"
        self.session = Session(self.tmp, root / "locks" / PRUNE_LOCK, readonly=readonly)
        self.db = Database(root / "layersmith.db", readonly=readonly)
        self.blobs = Blobs(root / "blobs" / "sha256", self.session)
        self.refs = Refs(root / "index.json", root / "locks" / "index.lock", self.session)
        self.snapshots = Snapshots(root / "snapshots", self.db, self.session, self.trash)
        self.cache = Cache(self.db, self.blobs)
        self.statcache = StatCache(self.db)
        self.mounts = CacheMounts(root / "cache", self.trash)
        self.builds = Builds(root / "builds", self.trash)
        self.max_layer_size = MAX_LAYER_SIZE
        self.closing = contextlib.ExitStack()
        """What `close` is to do first."""

    @classmethod
    def open(cls, root: Path | None = None, *, create: bool = True) -> Store:
        """The store at ``root`` (see `default_root`), made if missing and ``create`` is on; swept of what crashes left.

        Raises:
            StoreError: there is none, it is another directory, it is of a newer version, or it can't be made.
        """
        root = (root or default_root()).absolute()
        if not (root / "oci-layout").exists():
            if not create:
                raise StoreError(f"there is no store at {root}", hint="build, pull or import an image first")
            _refuse_foreign(root)
            with storing(root):
                root.mkdir(mode=0o700, parents=True, exist_ok=True)
                for name in _DIRECTORIES:
                    make_directory(root / name, 0o755 if name.startswith("blobs") else 0o700)
        store = cls(root, readonly=not os.access(root / "tmp", os.W_OK))
        store.db.check_version()
        if not store.readonly:
            store._complete()
            sweep(store)
        return store

    def _complete(self) -> None:
        """Write the layout's two files if missing, ``oci-layout`` last: it says that all the rest is there."""
        if (self.root / "oci-layout").exists():
            return
        with self.lock("index"), storing(self.root):
            if not (self.root / "index.json").exists():
                temporary = self.session.new_path("index")
                replace_file(self.root / "index.json", Index().to_json(), temporary=temporary)
            self.db.make_reserve()
            spread_children(self.root / "snapshots")
            replace_file(self.root / "oci-layout", LAYOUT, temporary=self.session.new_path("layout"))

    def lock(
        self, name: str, *, shared: bool = False, wait: bool = True
    ) -> contextlib.AbstractContextManager[None]:
        """Hold the lock ``name`` for a block, against other processes and other threads of this one.

        Raises:
            StoreError: ``wait`` is off and somebody else holds it.
        """
        path = self.root / "locks" / (_UNSAFE.sub("_", name) + ".lock")
        return locked(path, shared=shared, wait=wait)

    def temporary(self, prefix: str) -> Path:
        """A fresh directory, mode 0700, on the store's file system; it goes when the store is closed, or a sweep comes."""
        path = self.session.new_path(prefix)
        with storing(path):
            path.mkdir(mode=0o700)
        return path

    def pin(self, *names: str) -> None:
        """Keep digests, DiffIDs and snapshot keys from being pruned for as long as this store is open."""
        self.session.pin(*names)

    def trash(self, path: Path) -> None:
        """Move ``path`` (in this store) out of the way at once, to be deleted at the end: deleting is slow."""
        target = self.tmp / (DEAD + os.urandom(8).hex())
        with storing(path), contextlib.suppress(FileNotFoundError):
            try:
                path.rename(target)
            except PermissionError:
                # Moving a directory rewrites its "..", for which an unprivileged owner needs its w bit.
                path.chmod(0o700)
                path.rename(target)

    def tidy(self, seconds: float | None = None) -> bool:
        """Delete what was moved aside, for ``seconds`` at most; whether all of it is gone.

        With a limit, empty directories may stay for some minutes: see `layersmith.store.hollow`.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        with os.scandir(self.tmp) as entries:
            names = [entry.name for entry in entries if entry.name.startswith((DEAD, hollow.NAME))]
        if not names:
            return True
        place = None
        if seconds is not None and any(name != hollow.NAME for name in names):
            place = hollow.place(self.tmp, self.root / "snapshots")
        gone = [
            remove_tree(self.tmp / name, deadline=deadline, hollow=place)
            for name in names
            if name != hollow.NAME
        ]
        return hollow.clear(self.tmp, deadline=deadline) and all(gone)

    def close(self) -> None:
        """Give up locks and unfinished work. Whatever fails here is left to the next sweep."""
        with contextlib.suppress(OSError):
            self.closing.close()
        with contextlib.suppress(StoreError, OSError):
            if self.session.started:
                clear_session(self, self.session.directory)
        self.session.close()
        self.db.close()
        if not self.readonly:
            with contextlib.suppress(OSError):
                self.tidy(_TIDY_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _refuse_foreign(root: Path) -> None:
    """A directory with somebody's files in it does not become a store by a slip in ``--root``."""
    try:
        names = {path.name for path in root.iterdir()}
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise StoreError(f"{root} is not a directory", hint="a store is a directory") from None
    except OSError as error:
        raise explained(error, root) from error
    known = {path.partition("/")[0] for path in _DIRECTORIES} | {"index.json", "containers", "lost+found"}
    if "oci-layout" not in names and not names <= known:  # else another process has just made it
        raise StoreError(
            f"{root} is neither a layersmith store nor empty", hint="give --root a new or an empty directory"
        )
