"""The files of a stack of layers, as an overlay of them would show, read from their indexes: nothing is unpacked.

In: layers, lowest first. Out: answers about paths.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from layersmith.errors import CopyError, NotFoundError, StoreError
from layersmith.layer.blob import layer_index, read_at, read_sparse
from layersmith.layer.entry import DIR, REG, ROOT, SYM, Entry
from layersmith.layer.image import read_content
from layersmith.layer.index import WHT, LayerIndex
from layersmith.store.snapshots import IMAGE

if TYPE_CHECKING:
    from layersmith.oci.descriptor import Layer
    from layersmith.store import Store

MAX_LINKS = 40
_CHUNK = 1 << 20


class View:
    """The merged files of ``layers`` (lowest first). Paths are as `Entry.path`; safe to use from several threads.

    Whiteouts, opaque directories and hard links are resolved: whatever is given out is a REG (a hard link's
    ``link`` is the path of its first name), SYM, DIR, CHR, BLK or FIFO that exists. An index that is missing is made
    from its blob. Raises what `layersmith.layer.blob.layer_index` raises.
    """

    def __init__(self, store: Store, layers: Sequence[Layer]) -> None:
        self._store = store
        self.layers = tuple(layers)
        found = [layer_index(store, layer, self.layers[:i]) for i, layer in enumerate(self.layers)]
        self._set(tuple(key for key, _ in found), tuple(index for _, index in found))

    def on_top(self, layer: Layer) -> View:
        """A View with one more layer; the indexes that both have are shared."""
        key, index = layer_index(self._store, layer, self.layers)
        view = View.__new__(View)
        view._store = self._store
        view.layers = (*self.layers, layer)
        view._set((*self.keys, key), (*self._indexes, index))
        return view

    def _set(self, keys: tuple[str, ...], indexes: tuple[LayerIndex, ...]) -> None:
        self.keys = keys
        """What the layers' snapshots and indexes are stored under."""
        self._indexes = indexes
        self._directories: dict[bytes, tuple[int, ...]] = {}

    def lookup(self, path: bytes) -> Entry | None:
        """What is at ``path``, no symlink followed, neither in the parents nor at the end. The root always is."""
        found = self._find(path)
        return None if found is None else found[1]

    def origin(self, path: bytes) -> Layer | None:
        """The layer that what is at ``path`` is from; None for nothing, and for a root that no layer has."""
        found = self._find(path)
        return None if found is None or found[0] < 0 else self.layers[found[0]]

    def resolve(self, path: bytes, *, follow_last: bool = True) -> bytes:
        """The real path of ``path`` (absolute or relative to the root; ``.`` and ``..`` allowed), inside the root.

        What does not exist is kept as written. Raises CopyError after 40 symlinks, as the kernel's ELOOP.
        """
        here = b""
        todo = path.split(b"/")[::-1]
        followed = 0
        while todo:
            name = todo.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                here = here.rpartition(b"/")[0]
                continue
            at = here + b"/" + name if here else name
            entry = self.lookup(at) if follow_last or any(todo) else None
            if entry is None or entry.kind != SYM:
                here = at
                continue
            followed += 1
            if followed > MAX_LINKS:
                raise CopyError(f"{os.fsdecode(path)!r}: too many levels of symbolic links")
            if entry.link.startswith(b"/"):
                here = b""
            todo += entry.link.split(b"/")[::-1]
        return here

    def children(self, path: bytes) -> Iterator[Entry]:
        """What lies directly in the directory ``path``, sorted by name; nothing for what is not a directory."""
        found: dict[bytes, Entry] = {}
        for number in self._contributors(path):
            for entry in self._indexes[number].children(path):
                found.setdefault(entry.path, entry)
        for name in sorted(found):
            if found[name].kind != WHT:
                yield found[name]

    def walk(self, path: bytes = b"") -> Iterator[Entry]:
        """``path`` and everything below it, parents first, names in byte order."""
        top = self.lookup(path)
        if top is None:
            return
        yield top
        stack = [self.children(path)]
        while stack:
            entry = next(stack[-1], None)
            if entry is None:
                stack.pop()
                continue
            yield entry
            if entry.kind == DIR:
                stack.append(self.children(entry.path))

    def read(self, path: bytes, *, limit: int = 1 << 20) -> bytes:
        """The content of the regular file that ``path`` resolves to, from a snapshot or else from the blob.

        Raises:
            NotFoundError: there is no regular file.
            StoreError: it has more than ``limit`` bytes.
        """
        real = self.resolve(path)
        entry = self.lookup(real)
        if entry is None or entry.kind != REG:
            raise NotFoundError(f"{os.fsdecode(path)!r} is not a file of the image")
        if entry.size > limit:
            raise StoreError(f"{os.fsdecode(path)!r} has {entry.size} bytes; {limit} at most are read")
        return b"".join(self.content(real))

    def content(self, path: bytes) -> Iterator[bytes]:
        """The content of the regular file at ``path`` (no symlink is followed), piece by piece."""
        found = self._find(path)
        if found is None or found[1].kind != REG:
            raise NotFoundError(f"{os.fsdecode(path)!r} is not a file of the image")
        number, entry = found
        snapshot = self._store.snapshots.find(self.keys[number], images=True)
        if snapshot is not None and snapshot.suffix != IMAGE:
            return _read_inside(snapshot, path)
        index = self._indexes[number]
        offset = index.content(path)
        if snapshot is not None and offset is not None:
            return read_content(snapshot, offset, entry.size)
        if offset is not None:
            if index.sparse(path):
                return read_sparse(self._store, self.layers[number], offset)
            return read_at(self._store, self.layers[number], offset, entry.size)
        # A file that a hard link of this layer names, and that is a lower layer's.
        return View(self._store, self.layers[:number]).content(entry.link or path)

    def close(self) -> None:
        """Unmap the indexes, those shared with other views as well; dropping the last reference does it, too."""
        for index in self._indexes:
            index.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _find(self, path: bytes) -> tuple[int, Entry] | None:
        """The entry at ``path`` and the number of the layer it is from."""
        for number in (
            self._contributors(path.rpartition(b"/")[0]) if path else range(len(self._indexes))[::-1]
        ):
            entry = self._indexes[number].get(path)
            if entry is not None:
                return None if entry.kind == WHT else (number, entry)
        return None if path else (-1, ROOT)

    def _contributors(self, path: bytes) -> tuple[int, ...]:
        """The layers whose entries show in the directory ``path``, topmost first; none if it is not one."""
        known = self._directories.get(path)
        if known is not None:
            return known
        found: list[int] = []
        if not path:
            for number in range(len(self._indexes))[::-1]:
                found.append(number)
                if self._indexes[number].opaque(b""):
                    break
        else:
            for number in self._contributors(path.rpartition(b"/")[0]):
                entry = self._indexes[number].get(path)
                if entry is None:
                    continue
                if entry.kind != DIR:
                    break
                found.append(number)
                if self._indexes[number].opaque(path):
                    break
        self._directories[path] = tuple(found)
        return self._directories[path]


def _read_inside(top: Path, path: bytes) -> Iterator[bytes]:
    """A file's content; no symlink is followed on the way, for none belongs there."""
    fd = os.open(top, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        *parents, name = path.split(b"/")
        for parent in parents:
            inner = os.open(parent, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            os.close(fd)
            fd = inner
        inner = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
        os.close(fd)
        fd = inner
        while data := os.read(fd, _CHUNK):
            yield data
    except OSError as error:
        raise StoreError(
            f"the snapshot {top} lacks {os.fsdecode(path)!r}: {error.strerror}",
            hint="`layersmith fsck --repair` unpacks it again",
        ) from error
    finally:
        os.close(fd)
