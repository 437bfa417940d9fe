"""EXECUTE: a context as a bind mount sees it. In: its root and ignore rules. Out: an overlay that hides the ignored.

A directory of whiteouts on top of the context: nothing is copied, whatever the context's size.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from layersmith.context import Ignore


def hiding_overlay(root: Path, ignore: Ignore, directory: Path) -> tuple[str, ...]:
    """The lowerdir to put on top of ``root`` so that what ``ignore`` hides is not seen; ``()`` if that is nothing."""
    hidden, _ = _hidden(os.fspath(root), ignore, "")
    if not hidden:
        return ()
    directory.mkdir(parents=True)
    directory.chmod(stat.S_IMODE(root.stat().st_mode))
    for path in hidden:
        _parents(root, directory, Path(path).parent)
        # overlayfs.rst: "a whiteout is created as a character device with 0/0 device number".
        os.mknod(directory / path, stat.S_IFCHR, 0)
    return (os.fspath(directory),)


def _hidden(root: str, ignore: Ignore, below: str) -> tuple[list[str], bool]:
    """The topmost hidden paths below ``below``, and whether anything there can be seen."""
    hidden: list[str] = []
    visible = False
    with os.scandir(os.path.join(root, below)) as entries:
        for entry in entries:
            path = os.path.join(below, entry.name)
            is_hidden = ignore.hides(path)
            inner: list[str] = []
            if entry.is_dir(follow_symlinks=False):
                inner, seen = _hidden(root, ignore, path)
                is_hidden = is_hidden and not seen
            hidden += [path] if is_hidden else inner
            visible = visible or not is_hidden
    return hidden, visible


def _parents(root: Path, base: Path, path: Path) -> None:
    """Make ``path`` below ``base`` with the owners and modes that it has below ``root``."""
    if path == Path() or (base / path).is_dir():
        return
    _parents(root, base, path.parent)
    there, here = (root / path).lstat(), base / path
    here.mkdir()
    os.chown(here, there.st_uid, there.st_gid)
    here.chmod(stat.S_IMODE(there.st_mode))
