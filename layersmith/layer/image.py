"""Layers unpacked to one file each: EROFS images. In: a `Layer`, its blob. Out: the image, and where it is mounted.

For layers of many files, which the disk's own file system would take longer to create, and to delete again, than all
else that is done with them. See `layersmith.layer.erofs` for what is in the file, `layersmith.linux.erofs` for who can mount it.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from layersmith.errors import SandboxError
from layersmith.layer.erofs import START, Image, tar_size
from layersmith.linux import libc
from layersmith.linux.erofs import known_to_kernel, mount_image
from layersmith.linux.overlay import Overlay, open_overlay
from layersmith.store.files import write_all
from layersmith.store.snapshots import IMAGE

if TYPE_CHECKING:
    from layersmith.layer.index import LayerIndex
    from layersmith.oci.descriptor import Layer
    from layersmith.store import Store

ENTRIES = 1000
"""From how many on a layer becomes an image. Below, a directory costs little, and reading files from one is cheaper."""
BLOB = 1 << 20
"""Bytes of a blob from which on that is expected."""

_CHUNK = 1 << 20
_lock = threading.Lock()
_mounted: WeakKeyDictionary[Store, dict[Path, Path]] = WeakKeyDictionary()
_refused = False


def mountable() -> bool:
    """Whether this kernel mounts images, as far as is known: it may still refuse the first, and then all are refused."""
    return not _refused and known_to_kernel()


def worthwhile(layer: Layer, index: LayerIndex | None) -> bool:
    """Whether ``layer`` had better become an image; ``index`` is its file index if there is one."""
    return layer.descriptor.size >= BLOB if index is None else len(index) >= ENTRIES


def mounted(store: Store, path: Path) -> Path | None:
    """A directory with the files of the snapshot ``path``, until the store is closed: of an image, where it is mounted.

    Only after `userns.enter`, and only as root. None for an image that the kernel refuses to mount.
    """
    global _refused
    if path.suffix != IMAGE:
        return path
    with _lock:
        known = _mounted.setdefault(store, {})
        if path not in known:
            point = store.temporary("image")
            try:
                mount_image(path, point)
                store.closing.callback(partial(libc.umount, os.fspath(point), detach=True))
                if not known:
                    # File systems stack two deep (FILESYSTEM_MAX_STACK_DEPTH): in a store that itself lies on an
                    # overlay, an image can be mounted, but no overlay on that.
                    os.close(open_overlay(Overlay((os.fspath(point), os.fspath(store.layers)))))
            except (OSError, SandboxError):
                _refused = True
                return None
            known[path] = point
        return known[path]


class ImageWriter:
    """Fills the file ``path``: first the tar, by `write`, in its order; then `finish`. Close it."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._size = 0
        os.lseek(self._fd, START, os.SEEK_SET)

    def write(self, data: memoryview) -> None:
        """Take the next bytes of the tar."""
        write_all(self._fd, data)
        self._size += len(data)

    def finish(self, index: LayerIndex) -> None:
        """Write all the rest. Raises UnfitError."""
        for at, data in Image(index).parts(self._size):
            os.lseek(self._fd, at, os.SEEK_SET)
            write_all(self._fd, data)

    def close(self) -> None:
        os.close(self._fd)


def read_content(image: Path, offset: int, size: int) -> Iterator[bytes]:
    """The ``size`` bytes of a layer's tar from ``offset`` on, from its image."""
    with image.open("rb", buffering=0) as file:
        file.seek(START + offset)
        while size and (data := file.read(min(size, _CHUNK))):
            size -= len(data)
            yield data


def image_problem(index: LayerIndex, key: str, path: Path) -> str:
    """How the image of the snapshot ``key`` differs from the layer; ``""`` if it does not. All of it is read."""
    with path.open("rb", buffering=0) as file:
        size = tar_size(file.read(START))
        if size is None:
            return "has no superblock"
        digest = hashlib.sha256()
        for piece in read_content(path, 0, size):
            digest.update(piece)
        if f"sha256:{digest.hexdigest()}" != key.partition("+")[0]:
            return "holds another tar"
        for at, data in Image(index).parts(size):
            file.seek(at)
            if file.read(len(data)) != data:
                return "differs from the file index"
    return ""
