"""EXECUTE: RUN --mount=type=cache. In: a CacheMount. Out: its directory, held for as long as the step runs.

cache/<sha256 of the id>/id          the id, for listing
cache/<sha256 of the id>/<n>/        the content; n is 0 but for further copies of ``sharing=private``
cache/<sha256 of the id>/<n>.lock    held shared by every user, alone by ``locked`` and ``private``
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from layersmith.errors import StoreError
from layersmith.execute.tree import Tree
from layersmith.linux.rooted import open_in_root
from layersmith.ops import CacheMount
from layersmith.store import Store
from layersmith.store.locks import locked


@contextmanager
def cache_directory(store: Store, mount: CacheMount, source: Tree | None) -> Iterator[Path]:
    """The directory of ``mount``; made with its owner and mode, and ``source``'s content, if it is new.

    ``shared`` gives it to any number of steps, ``locked`` to one after the other, ``private`` a free one to each.
    """
    home = store.cache_mounts / hashlib.sha256(_identity(mount).encode()).hexdigest()
    home.mkdir(mode=0o700, exist_ok=True)
    name = home / "id"
    if not name.exists():
        name.write_text(mount.id)
    with ExitStack() as held:
        number = _hold(home, mount.sharing, held)
        path = home / str(number)
        if not path.exists():
            with locked(home / "create.lock"):
                if not path.exists():
                    _create(store, path, mount, source)
        yield path


def _identity(mount: CacheMount) -> str:
    """The id, and where its first content came from, if anywhere: those are different caches."""
    return f"{mount.id}\0{mount.source}" if mount.input is not None else mount.id


def _hold(home: Path, sharing: str, held: ExitStack) -> int:
    """Take the lock that ``sharing`` asks for; the number of the copy that it is for."""
    if sharing != "private":
        held.enter_context(locked(home / "0.lock", shared=sharing == "shared"))
        return 0
    number = 0
    while True:
        try:
            held.enter_context(locked(home / f"{number}.lock", wait=False))
        except StoreError:
            number += 1
        else:
            return number


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
