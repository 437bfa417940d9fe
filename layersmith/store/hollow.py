"""Directories of what was deleted, empty, for some minutes more. In: a store's tmp/. Out: where to leave them.

ext4 puts a new snapshot or work directory (see `files.spread_children`) where the disk has the fewest directories
(fs/ext4/ialloc.c, find_group_orlov), and looks at every inode there that was deleted within the last minutes before it
takes another (recently_deleted). So whoever deletes a tree invites the next one into the slowest place of the disk, again and again.
Of what is deleted files go at once, then, and directories when that time is over: meanwhile they keep others away.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from layersmith.store.files import is_spread

NAME = "hollow"
SECONDS = 360
"""How long ext4 avoids a deleted inode: RECENTCY_MIN and RECENTCY_DIRTY."""
ROOM = 2 << 30
INODES = 1 << 18
"""Bytes and inodes that must be free for this: an empty directory takes a block and an inode."""


def place(tmp: Path, snapshots: Path) -> Path | None:
    """Where to move directories that are emptied now; None where they had better go at once."""
    disk = os.statvfs(tmp)
    if disk.f_bavail * disk.f_frsize < ROOM or disk.f_favail < INODES or not is_spread(snapshots):
        return None
    found = tmp / NAME / str(int(time.time()) // 60)
    try:
        found.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return None
    return found


def clear(tmp: Path, *, deadline: float | None) -> bool:
    """Delete those whose time is over, until ``deadline`` (`time.monotonic`); without one, all. Whether that was done."""
    over = time.time() - SECONDS
    with contextlib.suppress(FileNotFoundError):
        for minute in (tmp / NAME).iterdir():
            if deadline is not None and minute.name.isdigit() and (int(minute.name) + 1) * 60 > over:
                continue
            with os.scandir(minute) as entries:
                for entry in entries:
                    if deadline is not None and time.monotonic() > deadline:
                        return False
                    with contextlib.suppress(OSError):
                        os.rmdir(entry.path)
            with contextlib.suppress(OSError):
                minute.rmdir()
    return True
