"""EXECUTE: RUN --mount=type=cache. In: a CacheMount. Out: its directory, held for as long as the step runs."""

from __future__ import annotations

import os
import shutil
from contextlib import AbstractContextManager
from pathlib import Path

from layersmith.execute.tree import Tree
from layersmith.linux.rooted import open_in_root
from layersmith.ops import CacheMount
from layersmith.store import Store


def cache_directory(store: Store, mount: CacheMount, source: Tree | None) -> AbstractContextManager[Path]:
    """The directory of ``mount``; made with its owner and mode, and ``source``'s content, if it is new."""
    return store.mounts.hold(
        mount.id, origin(mount), mount.sharing, lambda path: _create(store, path, mount, source)
    )


def origin(mount: CacheMount) -> str | None:
    """Where a mount's first content came from, as `store.mounts` wants it; None for one that began empty."""
    return None if mount.input is None else mount.source


def _create(store: Store, path: Path, mount: CacheMount, source: Tree | None) -> None:
    """Fill a directory beside its place, then rename it there: nobody ever sees half of it."""
    new = store.temporary("cache") / "new"
    if source is None:
        new.mkdir()
    else:
        _copy(source, mount.source, new)
    os.chown(new, mount.uid, mount.gid)
    new.chmod(mount.mode)
    new.rename(path)


def _copy(tree: Tree, inside: str, new: Path) -> None:
    """Copy the directory ``inside`` of ``tree``, owners and links kept."""
    root = os.open(tree.root, os.O_PATH | os.O_DIRECTORY)
    try:
        start = open_in_root(root, inside, os.O_PATH)
    finally:
        os.close(root)
    try:
        real = Path(os.readlink(f"/proc/self/fd/{start}"))
        shutil.copytree(real, new, symlinks=True, copy_function=_copy_file)
        for directory, names, _ in os.walk(real):
            for name in names:
                _keep_owner(Path(directory) / name, new / Path(directory).relative_to(real) / name)
    finally:
        os.close(start)


def _copy_file(source: str, dest: str) -> str:
    shutil.copy2(source, dest, follow_symlinks=False)
    _keep_owner(Path(source), Path(dest))
    return dest


def _keep_owner(source: Path, dest: Path) -> None:
    found = source.lstat()
    os.chown(dest, found.st_uid, found.st_gid, follow_symlinks=False)
