"""A layer's files as they really are: unpacked, as overlayfs takes them, and in the tar. Out: `RawFile`s.

A deleted file is a character device 0:0 in the one and an empty ``.wh.<name>`` in the other; a directory that hides
all that the layers below have in it carries ``trusted.overlay.opaque=y`` in the one (``user.…`` when rootless) and
holds ``.wh..wh..opq`` in the other. See Documentation/filesystems/overlayfs.rst, and image-spec's layer.md.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from layersmith.dataclass import dataclass
from layersmith.layer.blob import open_tar
from layersmith.layer.entry import (
    BLK,
    CHR,
    DIR,
    FIFO,
    LNK,
    OPAQUE_WHITEOUT,
    REG,
    SYM,
    WHITEOUT_PREFIX,
    Entry,
)
from layersmith.oci.descriptor import Layer
from layersmith.store import Store

_TYPES = {
    REG: stat.S_IFREG,
    LNK: stat.S_IFREG,
    SYM: stat.S_IFLNK,
    CHR: stat.S_IFCHR,
    BLK: stat.S_IFBLK,
    DIR: stat.S_IFDIR,
    FIFO: stat.S_IFIFO,
}
_NAMESPACES = ("trusted.overlay.", "user.overlay.")
_BOOKKEEPING = ("impure", "origin", "uuid", "nlink")
"""What overlayfs notes for itself (inode numbers that stay the same), and which says nothing about the diff."""


@dataclass(frozen=True, slots=True)
class RawFile:
    """A file on disk or in a tar. ``mode`` includes the type; ``path`` is relative; ``device`` is (major, minor).

    ``link`` is a symlink's target, ``same_as`` a hard link's. ``xattrs`` are overlayfs' own only, without bookkeeping.
    ``hides`` is what a whiteout is about: the path that it deletes, or the directory of which it hides all below.
    """

    path: bytes
    mode: int
    uid: int
    gid: int
    size: int = 0
    device: tuple[int, int] | None = None
    link: bytes = b""
    same_as: bytes = b""
    xattrs: tuple[tuple[str, bytes], ...] = ()
    hides: bytes | None = None
    opaque: bool = False


def on_disk(directory: Path) -> Iterator[RawFile]:
    """All below an upper or lower ``directory``, itself first, as the file system has it: no overlay is mounted."""
    pending = [b""]
    top = os.fsencode(directory)
    while pending:
        path = pending.pop()
        full = top + b"/" + path if path else top
        found = _raw(path, full)
        yield found
        if stat.S_ISDIR(found.mode):
            names = sorted(os.listdir(full), reverse=True)
            pending += [path + b"/" + name if path else name for name in names]


def _raw(path: bytes, full: bytes) -> RawFile:
    st = os.lstat(full)
    is_device = stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode)
    device = (os.major(st.st_rdev), os.minor(st.st_rdev)) if is_device else None
    xattrs = _xattrs(full)
    opaque = any(name.endswith(".overlay.opaque") and value == b"y" for name, value in xattrs)
    whiteout = stat.S_ISCHR(st.st_mode) and device == (0, 0)
    return RawFile(
        path,
        st.st_mode,
        st.st_uid,
        st.st_gid,
        size=st.st_size if stat.S_ISREG(st.st_mode) else 0,
        device=device,
        link=os.readlink(full) if stat.S_ISLNK(st.st_mode) else b"",
        xattrs=xattrs,
        hides=path if whiteout or opaque else None,
        opaque=opaque,
    )


def _xattrs(full: bytes) -> tuple[tuple[str, bytes], ...]:
    try:
        names = os.listxattr(full, follow_symlinks=False)
        return tuple(
            (name, os.getxattr(full, name, follow_symlinks=False))
            for name in sorted(names)
            if name.startswith(_NAMESPACES) and name.rpartition(".")[2] not in _BOOKKEEPING
        )
    except OSError:
        return ()


def in_tar(store: Store, layer: Layer) -> Iterator[RawFile]:
    """All entries of the layer's tar, in its order.

    Raises what `layersmith.layer.blob.open_tar` raises.
    """
    with open_tar(store, layer) as tar:
        for entry in tar:
            yield _from_entry(entry)


def _from_entry(entry: Entry) -> RawFile:
    hides = None
    if entry.name == OPAQUE_WHITEOUT:
        hides = entry.parent
    elif entry.name.startswith(WHITEOUT_PREFIX):
        name = entry.name.removeprefix(WHITEOUT_PREFIX)
        hides = entry.parent + b"/" + name if entry.parent else name
    return RawFile(
        entry.path,
        entry.mode | _TYPES[entry.kind],
        entry.uid,
        entry.gid,
        size=entry.size,
        device=(entry.major, entry.minor) if entry.kind in (CHR, BLK) else None,
        link=entry.link if entry.kind == SYM else b"",
        same_as=entry.link if entry.kind == LNK else b"",
        hides=hides,
        opaque=entry.name == OPAQUE_WHITEOUT,
    )
