"""Which paths layers add, change and delete, as `docker diff` tells it of a container. In: two stacks. Out: `Change`s.

Only what the layers touch is looked at, whatever the size of the image below them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from layersmith.dataclass import dataclass
from layersmith.errors import LayersmithError
from layersmith.image import Image
from layersmith.layer.blob import layer_index, open_tar
from layersmith.layer.entry import DIR, REG, Entry
from layersmith.layer.index import WHT
from layersmith.layer.tar.reader import Body
from layersmith.layer.view import View
from layersmith.oci.descriptor import Layer
from layersmith.store import Store

ADDED = "A"
CHANGED = "C"
DELETED = "D"


@dataclass(frozen=True, slots=True)
class Change:
    """``kind`` is `ADDED`, `CHANGED` or `DELETED`; ``path`` as `Entry.path`; the entry before and after, if any."""

    kind: str
    path: bytes
    before: Entry | None
    after: Entry | None


def layer_changes(store: Store, layers: Sequence[Layer], below: int) -> Iterator[Change]:
    """What ``layers[below:]`` do to the files of ``layers[:below]`` (lowest first), by path.

    Every path that one of them writes counts as changed, even if it is the same as before: it is in the layer. Of a
    deleted directory only itself is told.
    """
    before, after = View(store, layers[:below]), View(store, layers)
    yield from _compared(before, after, _touched(store, layers, below, before))


def image_changes(store: Store, old: Sequence[Layer], new: Sequence[Layer]) -> Iterator[Change]:
    """What is different in ``new`` compared with ``old``, two stacks of layers (lowest first), by path.

    Layers that both begin with are passed over. A file is changed if its content, or anything but its mtime, is.
    """
    shared = 0
    while shared < min(len(old), len(new)) and old[shared].diff_id == new[shared].diff_id:
        shared += 1
    before, after = View(store, old), View(store, new)
    paths = _touched(store, old, shared, after) | _touched(store, new, shared, before)
    found = list(_compared(before, after, paths))
    same = {c.path for c in found if c.kind == CHANGED and _look_same(c)}
    files = [c.path for c in found if c.path in same and c.after is not None and c.after.kind == REG]
    contents = [_contents(store, view, files) for view in (before, after)]
    for change in found:
        path = change.path
        if path not in same or contents[0].get(path) != contents[1].get(path):
            yield change


def base_of(store: Store, image: Image) -> tuple[int, str]:
    """How many of the image's lowest layers are its base's, and the base's name: ``(0, "scratch")`` if none is known.

    No image says so reliably, so the base is the largest other image in the store that this one begins with.
    """
    best = (0, "scratch")
    for name, descriptor in store.refs.list():
        if not name:
            continue
        try:
            other = Image.read(store, descriptor, image.config.platform)
        except LayersmithError:
            continue
        count = len(other.layers)
        if best[0] < count < len(image.layers) and _diff_ids(image, count) == _diff_ids(other, count):
            best = (count, name)
    return best


def _diff_ids(image: Image, count: int) -> tuple[str, ...]:
    return image.config.diff_ids[:count]


def shown_path(path: bytes) -> str:
    """A path as a person writes it: absolute."""
    return "/" + os.fsdecode(path)


def _touched(store: Store, layers: Sequence[Layer], below: int, other: View) -> set[bytes]:
    """Paths that ``layers[below:]`` write or hide; ``other`` is what they may hide files of."""
    touched: set[bytes] = set()
    hidden: set[bytes] = set()
    for number in range(below, len(layers)):
        _, index = layer_index(store, layers[number], layers[:number])
        for entry in index:
            touched.add(entry.path)
            if entry.kind == WHT or (entry.kind == DIR and index.opaque(entry.path)):
                hidden.add(entry.path)
        if index.opaque(b""):
            hidden.add(b"")
        index.close()
    for path in hidden:
        # A later layer may have made the directory anew: what it had before is gone one by one.
        touched.update(entry.path for entry in other.walk(path) if entry.path)
    return touched


def _compared(before: View, after: View, paths: Iterable[bytes]) -> Iterator[Change]:
    gone: bytes | None = None
    for path in sorted(paths, key=lambda path: path.replace(b"/", b"\0")):
        if gone is not None and path.startswith(gone):
            continue
        old, new = before.lookup(path), after.lookup(path)
        if old is None and new is not None:
            yield Change(ADDED, path, old, new)
        elif old is not None and new is None:
            yield Change(DELETED, path, old, new)
            gone = path + b"/"
        elif old is not None:
            yield Change(CHANGED, path, old, new)
            if old.kind == DIR and new is not None and new.kind != DIR:
                gone = path + b"/"


def _look_same(change: Change) -> bool:
    """Whether the entries before and after differ in mtime and content at most."""
    old, new = change.before, change.after
    if old is None or new is None:
        return False
    if old.kind == REG:  # where it has several names, link only says which came first
        old, new = old._replace(link=b""), new._replace(link=b"")
    return old._replace(mtime=0) == new._replace(mtime=0)


def _contents(store: Store, view: View, paths: Iterable[bytes]) -> dict[bytes, bytes]:
    """The digest of the content of each file, every layer being read once."""
    wanted: dict[Layer, dict[bytes, list[bytes]]] = {}
    for path in paths:
        layer, entry = view.origin(path), view.lookup(path)
        if layer is not None and entry is not None and entry.size:
            wanted.setdefault(layer, {}).setdefault(entry.link or path, []).append(path)
    found: dict[bytes, bytes] = {}
    for layer, names in wanted.items():
        with open_tar(store, layer) as tar:
            for entry in tar:
                if entry.kind == REG and entry.path in names:
                    digest = _digest(iter(partial(Body(tar, entry).read, 1 << 20), b""))
                    found.update(dict.fromkeys(names.pop(entry.path), digest))
        for path in (path for paths in names.values() for path in paths):
            found[path] = _digest(
                view.content(path)
            )  # a name for a lower layer's file, or one behind a symlink
    return found


def _digest(pieces: Iterable[bytes]) -> bytes:
    hasher = hashlib.sha256()
    for piece in pieces:
        hasher.update(piece)
    return hasher.digest()
