"""`Session`: one process's stay in a store: a locked directory in tmp/ with all that it has not finished.

It also lists what the process relies on (*pins*), which `prune` in another process must leave alone. The directory's
lock is free once its process is gone, however it died; then `gc.sweep` clears it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from pathlib import Path

from layersmith.errors import StoreError
from layersmith.store.files import DiskFullError, spread_children, storing, write_all
from layersmith.store.locks import locked, try_lock_directory

PREFIX = "session-"
PINS = "pins"
SNAPSHOT = "snapshot-"
PRUNE_LOCK = "prune.lock"


class Session:
    """Made in ``tmp`` when first used; `close` gives the lock back, and whoever owns the store clears the rest."""

    def __init__(self, tmp: Path, prune_lock: Path, *, readonly: bool = False) -> None:
        self._tmp = tmp
        self._readonly = readonly
        self._prune_lock = prune_lock
        self._mutex = threading.Lock()
        self._numbers = itertools.count()
        self._pinned: set[str] = set()
        self._directory: Path | None = None
        self._lock_fd = -1
        self._pins_fd = -1

    @property
    def started(self) -> bool:
        """Whether there is a directory yet."""
        return self._directory is not None

    @property
    def directory(self) -> Path:
        """``tmp/session-<random>``, locked by this process."""
        with self._mutex:
            return self._start()

    def _start(self) -> Path:
        if self._directory is not None:
            return self._directory
        if self._readonly:
            raise StoreError(
                f"the store {self._tmp.parent} is read-only",
                hint="choose another store with --root or $LAYERSMITH_ROOT",
            )
        with storing(self._tmp):
            while True:
                path = self._tmp / (PREFIX + os.urandom(8).hex())
                path.mkdir(mode=0o700)
                fd = try_lock_directory(path)
                if fd is not None:  # else a sweep came between the two calls and took it for a dead one
                    break
            # Each overlay makes files in its work directory and deletes them again: not all in one part of the disk.
            spread_children(path)
            self._pins_fd = os.open(path / PINS, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._lock_fd = fd
        self._directory = path
        return path

    def new_path(self, prefix: str) -> Path:
        """A path in the session's directory that nothing has."""
        return self.directory / f"{prefix}-{next(self._numbers)}"

    def pin(self, *names: str) -> None:
        """Keep what is called ``names`` (digests, DiffIDs, snapshot keys) from being pruned while this session lives.

        Pin first, then look whether it is there: the lock makes sure that a prune has seen the pin or is done.
        """
        if self._readonly or self._pinned.issuperset(names):
            return
        with self._mutex:
            new = [name for name in dict.fromkeys(names) if name not in self._pinned]
            if not new:
                return
            try:
                self._start()
                with locked(self._prune_lock, shared=True), storing(self._tmp):
                    write_all(self._pins_fd, "".join(f"{name}\n" for name in new).encode())
            except DiskFullError:
                return  # what only reads must work on a full disk; what writes will fail soon enough
            self._pinned.update(new)

    def close(self) -> Path | None:
        """Release the lock; returns the directory that now awaits deletion, if there ever was one."""
        with self._mutex:
            directory, self._directory = self._directory, None
            for fd in (self._pins_fd, self._lock_fd):
                if fd >= 0:
                    with contextlib.suppress(OSError):
                        os.close(fd)
            self._pins_fd = self._lock_fd = -1
            self._pinned.clear()
            return directory


def read_pins(directory: Path) -> set[str]:
    """What the session in ``directory`` has pinned."""
    try:
        lines = (directory / PINS).read_bytes().split(b"\n")
    except FileNotFoundError:
        return set()
    return {line.decode("utf-8", "replace") for line in lines[:-1]}
