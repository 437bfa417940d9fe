"""`Snapshots`: snapshots/: unpacked layers, each an overlay lowerdir. In: a key. Out: the directory or image it names.

The key is a layer's DiffID, or DiffID+hash for a variant (see `layersmith.layer.unpack`). A directory becomes a
snapshot by a record alone: nothing is renamed, for it may be mounted as somebody's upper when it does. A layer of many
files may instead be one file, the image of a file system (``.erofs``), which root can mount in place of a directory.

Files of snapshots are not synced, which would cost more than unpacking them again. So a record says in which boot of
the machine its directory was filled: in any later boot, power may have failed in between, and `find` gives it only to
a caller who can tell whether it is whole. Anybody else unpacks the layer's blob again, which always was synced.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from layersmith.dataclass import dataclass
from layersmith.store.cache import TOUCH_SECONDS
from layersmith.store.database import Database
from layersmith.store.files import DiskFullError, storing
from layersmith.store.session import SNAPSHOT, Session

IMAGE = ".erofs"
"""The suffix of snapshots that are one file."""
_TOUCH = "UPDATE snapshots SET used = ? WHERE key = ?"


@dataclass(frozen=True, slots=True)
class Pending:
    """A snapshot in the making: an overlay's upper directory ``path`` (or an empty file, for an image) and its ``work``
    directory beside it."""

    path: Path
    work: Path


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A record. ``created`` and ``used`` are seconds since the epoch."""

    key: str
    path: Path
    created: float
    used: float


class Snapshots:
    """The snapshots of a store."""

    def __init__(
        self, directory: Path, database: Database, session: Session, trash: Callable[[Path], None]
    ) -> None:
        self._directory = directory
        self._database = database
        self._session = session
        self._trash = trash
        self._boot = ""

    def create(self, *, image: bool = False) -> Pending:
        """A fresh directory (mode 0755) or file to fill. If this process dies before `commit`, a sweep removes it."""
        name = os.urandom(8).hex() + (IMAGE if image else "")
        marker = self._session.directory / (SNAPSHOT + name)
        path, work = self._directory / name, marker / "work"
        with storing(path):
            marker.mkdir(mode=0o700)
            work.mkdir(mode=0o700)
            if image:
                path.touch(mode=0o600, exist_ok=False)
            else:
                path.mkdir()
                path.chmod(0o755)
        return Pending(path, work)

    def commit(self, pending: Pending, key: str) -> Path:
        """Make ``pending`` the snapshot ``key``. The layer's blob must be in the store already.

        If there is one already, that one is kept and returned, and ``pending`` is left to be discarded; but a directory
        takes the place of an image, which not everybody can mount.
        """
        self._session.pin(key)
        now = time.time()
        with self._database.transaction():
            rows = self._database.execute("SELECT directory, boot FROM snapshots WHERE key = ?", (key,))
            for name, boot in rows:
                known = self._directory / str(name)
                replaced = known.suffix == IMAGE != pending.path.suffix
                if boot == self.boot and known.exists() and not replaced:
                    return known
            self._database.execute(
                "INSERT OR REPLACE INTO snapshots(key, directory, boot, created, used) VALUES (?, ?, ?, ?, ?)",
                (key, pending.path.name, self.boot, now, now),
            )
        for row in rows:
            self._trash(self._directory / row[0])
        return pending.path

    def find(
        self, key: str, *, whole: Callable[[Path], bool] | None = None, images: bool = False
    ) -> Path | None:
        """The directory of ``key``, or with ``images`` its directory or image; or None.

        It stays for as long as this process runs: a prune spares it. ``whole`` is asked about what is of an earlier
        boot; without it, that is given up.
        """
        self._session.pin(key)
        rows = self._database.execute("SELECT directory, boot, used FROM snapshots WHERE key = ?", (key,))
        if not rows:
            return None
        path = self._directory / str(rows[0][0])
        if path.suffix == IMAGE and not images:
            return None
        if not path.exists() or (rows[0][1] != self.boot and not (whole is not None and whole(path))):
            self.remove(key)
            return None
        if rows[0][1] != self.boot:
            self._database.execute("UPDATE snapshots SET boot = ? WHERE key = ?", (self.boot, key))
        if time.time() - rows[0][2] > TOUCH_SECONDS:
            self._database.defer(_TOUCH, time.time(), key)
        return path

    def discard(self, pending: Pending) -> None:
        """Throw away a directory, unless it was committed: what failed may have come after that."""
        if not self._database.execute("SELECT 1 FROM snapshots WHERE directory = ?", (pending.path.name,)):
            self._trash(pending.path)
        self._trash(pending.work.parent)

    def remove(self, key: str) -> None:
        """Forget a snapshot, if there is one, and delete its directory when there is time."""
        for (name,) in self._database.execute("SELECT directory FROM snapshots WHERE key = ?", (key,)):
            # If this process is killed between the next two steps, a sweep finds an unrecorded directory by this.
            with contextlib.suppress(DiskFullError), storing(self._directory):
                (self._session.directory / (SNAPSHOT + name)).mkdir(mode=0o700, exist_ok=True)
            self._database.execute("DELETE FROM snapshots WHERE key = ? AND directory = ?", (key, name))
            self._trash(self._directory / name)

    def list(self) -> tuple[Snapshot, ...]:
        """All records, by key."""
        rows = self._database.execute("SELECT key, directory, created, used FROM snapshots ORDER BY key")
        return tuple(
            Snapshot(key, self._directory / name, created, used) for key, name, created, used in rows
        )

    @property
    def boot(self) -> str:
        """What tells this boot of the machine from any other."""
        if not self._boot:
            try:
                self._boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
            except OSError:
                self._boot = os.urandom(16).hex()
        return self._boot
