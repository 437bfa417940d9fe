"""What nobody needs any more: `sweep` at open, `prune` and `disk_usage` on demand. In: a store. Out: a `Report`.

Deleting is moving aside, under a lock that holds for a moment; the real deletion comes when nobody waits for it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from layersmith.errors import StoreError
from layersmith.store.locks import try_lock_directory
from layersmith.store.session import PREFIX, SNAPSHOT

if TYPE_CHECKING:
    from layersmith.store.store import Store

DEAD = "dead-"


def sweep(store: Store) -> None:
    """Move aside what processes that died have left: their sessions, and the snapshots they had not finished."""
    with os.scandir(store.tmp) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(PREFIX)]
    for name in names:
        path = store.tmp / name
        fd = try_lock_directory(path)
        if fd is None:
            continue
        try:
            clear_session(store, path)
        except StoreError:
            continue  # a damaged database is for the command to meet, or for fsck
        finally:
            os.close(fd)


def clear_session(store: Store, directory: Path) -> None:
    """Move aside the session in ``directory``, which the caller has locked, and its unrecorded snapshots."""
    for path in directory.iterdir():
        if path.name.startswith(SNAPSHOT):
            snapshot = path.name.removeprefix(SNAPSHOT)
            if not store.db.execute("SELECT 1 FROM snapshots WHERE directory = ?", (snapshot,)):
                store.trash(store.root / "snapshots" / snapshot)
    store.trash(directory)
