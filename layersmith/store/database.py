"""`Database`: the store's SQLite file: cache records, snapshot records, the stat cache, build history.

Opened when first used, since importing sqlite3 and opening cost a few milliseconds that many commands need not spend.
WAL, so readers never wait for a writer. ``synchronous=NORMAL``: a power failure may lose the last records, never the
file's integrity, and a lost record only means that something is done again.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layersmith.errors import StoreError
from layersmith.store.files import DiskFullError
from layersmith.store.locks import locked

if TYPE_CHECKING:
    import sqlite3

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE snapshots(
        key TEXT PRIMARY KEY, directory TEXT NOT NULL UNIQUE, boot TEXT NOT NULL, created REAL NOT NULL, used REAL NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE cache(
        key TEXT PRIMARY KEY, step TEXT NOT NULL, diff_id TEXT, descriptor TEXT, inputs TEXT NOT NULL,
        created REAL NOT NULL, used REAL NOT NULL
    );
    CREATE INDEX cache_step ON cache(step, created);
    CREATE TABLE statcache(root BLOB PRIMARY KEY, used REAL NOT NULL, data BLOB NOT NULL);
    """,
)
"""Step N takes a database from version N to N + 1. Never edit one that was released: append."""

_VERSION_OFFSET = 60
"""Where ``user_version`` lies in the file's header (sqlite.org/fileformat2.html, 1.3)."""

_BUSY_SECONDS = 60.0

RESERVE = "reserve"
_RESERVE_SIZE = 256 << 10


class Database:
    """Any number of threads may use one; statements are serialised. Rows are tuples."""

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        self._path = path
        self._readonly = readonly
        self._reserve = path.with_name("locks") / RESERVE
        self._mutex = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._deferred: list[tuple[str, tuple[Any, ...]]] = []

    def make_reserve(self) -> None:
        """Set space aside, if there is some: on a full disk SQLite can't open a file, and so nothing could be pruned."""
        if self._readonly or self._reserve.exists():
            return
        temporary = self._reserve.with_name(f"{RESERVE}.{os.getpid()}")
        try:
            temporary.write_bytes(bytes(_RESERVE_SIZE))
            temporary.rename(self._reserve)
        except OSError:
            temporary.unlink(missing_ok=True)

    def make_room(self) -> None:
        """Give the reserve up, and what SQLite's log has grown by: for deletions, which need some space before they free any."""
        self._reserve.unlink(missing_ok=True)
        with contextlib.suppress(StoreError):
            self.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def check_version(self) -> None:
        """Refuse a file that a newer layersmith wrote, by its header alone: this costs no import.

        Raises:
            StoreError: as said.
        """
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            version = int.from_bytes(os.pread(fd, 4, _VERSION_OFFSET), "big")
        finally:
            os.close(fd)
        self._refuse_newer(version)

    def _refuse_newer(self, version: int) -> None:
        if version > len(MIGRATIONS):
            raise StoreError(
                f"the store {self._path.parent} has version {version}; this layersmith knows {len(MIGRATIONS)}",
                hint="a newer layersmith made it: update this one, or choose another store with --root",
            )

    def execute(self, sql: str, parameters: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement, all of it or nothing, and return its rows.

        Raises:
            StoreError: the database is damaged, locked for too long, read-only, or the disk is full.
        """
        with self._mutex, self._errors():
            return self._open().execute(sql, tuple(parameters)).fetchall()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All `execute` calls of the block take effect together or not at all; no other process writes meanwhile."""
        with self._mutex, self._errors():
            connection = self._open()
            if connection.in_transaction:
                yield
                return
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def defer(self, sql: str, *parameters: Any) -> None:
        """Run a statement that may as well be lost (a time of last use) when the database is closed."""
        with self._mutex:
            self._deferred.append((sql, parameters))

    def flush(self) -> None:
        """Run what was deferred, in one transaction."""
        with self._mutex:
            deferred, self._deferred = self._deferred, []
            if not deferred or self._readonly:
                return
            with self.transaction():
                for sql, parameters in deferred:
                    self.execute(sql, parameters)

    def integrity(self) -> list[str]:
        """What SQLite finds wrong with its file; empty if nothing."""
        rows = self.execute("PRAGMA quick_check(20)")
        return [str(row[0]) for row in rows if row[0] != "ok"]

    def close(self) -> None:
        """Write what was deferred, best effort, and close."""
        with self._mutex:
            try:
                with contextlib.suppress(StoreError):
                    self.flush()
            finally:
                connection, self._connection = self._connection, None
                if connection is not None:
                    connection.close()

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None:
            return self._connection
        import sqlite3

        try:
            self._connection = self._connected()
        except sqlite3.OperationalError:
            if self._readonly or not self._disk_is_full():
                raise
            self._reserve.unlink(missing_ok=True)
            self._connection = self._connected()
        return self._connection

    def _connected(self) -> sqlite3.Connection:
        connection = self._connect()
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _disk_is_full(self) -> bool:
        """Whether that may be why SQLite speaks of an I/O error: it calls so a shared memory that can't grow."""
        disk = os.statvfs(self._path.parent)
        return disk.f_bavail * disk.f_frsize < _RESERVE_SIZE

    def _connect(self) -> sqlite3.Connection:
        import sqlite3

        target = "file:" + _quoted(self._path)
        if self._readonly:
            # A WAL database can't be read without writing its -shm, unless it is promised that nobody writes.
            target += "?immutable=1" if self._path.exists() else "?mode=memory"
        return sqlite3.connect(
            target, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )

    def _prepare(self, connection: sqlite3.Connection) -> None:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        self._refuse_newer(version)
        if not self._readonly:
            connection.execute("PRAGMA synchronous=NORMAL")
        if version == len(MIGRATIONS):
            return
        if self._readonly:
            self._migrate(connection)
            return
        # Two that switch to WAL at once get SQLITE_BUSY without any waiting, whatever the timeout is.
        with locked(self._reserve.with_name("database.lock")):
            connection.execute("PRAGMA journal_mode=WAL")
            self._path.chmod(0o600)
            self._migrate(connection)

    @staticmethod
    def _migrate(connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            for migration in MIGRATIONS[version:]:
                for statement in migration.split(";"):
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version={len(MIGRATIONS)}")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        import sqlite3

        try:
            yield
        except sqlite3.OperationalError as error:
            raise self._explained(error) from error
        except sqlite3.DatabaseError as error:
            raise StoreError(
                f"the store's database {self._path} is damaged: {error}",
                hint="`layersmith fsck --repair` starts a new one; images stay, the build cache is lost",
            ) from error

    def _explained(self, error: Exception) -> StoreError:
        text = str(error)
        if "full" in text or ("I/O" in text and self._disk_is_full()):
            return DiskFullError(
                f"no space left to write {self._path}",
                hint="free some space, for example with `layersmith prune`",
            )
        if "readonly" in text or self._readonly:
            return StoreError(
                f"can't write {self._path}: the store is read-only",
                hint="choose another store with --root or $LAYERSMITH_ROOT",
            )
        if "locked" in text:
            return StoreError(
                f"{self._path} was locked by another process for {_BUSY_SECONDS:.0f} seconds",
                hint="see which layersmith processes are running",
            )
        return StoreError(f"the store's database {self._path}: {text}", hint="run `layersmith fsck`")


def _quoted(path: Path) -> str:
    from urllib.parse import quote

    return quote(os.fsencode(path))
