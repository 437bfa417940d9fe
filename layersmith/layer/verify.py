"""Is a snapshot still what its layer says? In: a snapshot's directory and its file index. Out: what is wrong with it.

For `Snapshots.find(whole=…)` after a reboot, when power may have failed before files reached the disk, and for `fsck`.
It compares what is there, of what kind, size, mode and link target. Contents are not read: what a power failure loses
shows in the size, and a blob that could say more costs as much to read as unpacking it again.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from layersmith.layer.entry import DIR, REG, SYM, Entry
from layersmith.layer.image import image_problem
from layersmith.layer.index import TYPE_BITS, WHT, open_index
from layersmith.layer.place import shown
from layersmith.store.snapshots import IMAGE

if TYPE_CHECKING:
    from layersmith.store import Store


def snapshot_problem(store: Store, key: str, path: Path) -> str:
    """The first difference between the snapshot ``key`` at ``path`` and its file index; ``""`` if there is none.

    A snapshot without an index, or with a damaged one, can't be told to be whole. An image is read as a whole.
    """
    index = open_index(store, key)
    if index is None:
        return "its file index is missing"
    try:
        if path.suffix == IMAGE:
            return image_problem(index, key, path)
        top = os.fsencode(path)
        for entry in index:
            problem = _difference(top, entry)
            if not problem and entry.kind == DIR and entry.path and index.opaque(entry.path):
                problem = "" if _opaque(top + b"/" + entry.path) else "is not opaque any more"
            if problem:
                return f"{shown(entry.path)} {problem}"
        return ""
    finally:
        index.close()


def _opaque(directory: bytes) -> bool:
    """Whether a directory hides what the layers below have in it, as a mount of root's or of a user's has it."""
    for namespace in (b"trusted", b"user"):
        with contextlib.suppress(OSError):
            if os.getxattr(directory, namespace + b".overlay.opaque", follow_symlinks=False) == b"y":
                return True
    return False


def _difference(top: bytes, entry: Entry) -> str:
    path = top + b"/" + entry.path if entry.path else top
    try:
        status = os.lstat(path)
    except OSError as error:
        if entry.kind == WHT and _opaque(os.path.dirname(path)):
            return ""  # a step's own upper directory: its layer has a whiteout for each file that this hides
        return f"is not there: {error.strerror}"
    if stat.S_IFMT(status.st_mode) != TYPE_BITS[entry.kind]:
        return "is of another type"
    if entry.kind == REG and status.st_size != entry.size:
        return f"has {status.st_size} bytes instead of {entry.size}"
    if entry.kind == SYM and os.readlink(path) != entry.link:
        return "leads elsewhere"
    if entry.kind in (REG, DIR) and stat.S_IMODE(status.st_mode) != entry.mode:
        return f"has mode {stat.S_IMODE(status.st_mode):o} instead of {entry.mode:o}"
    return ""
