"""``cp``: files between a container and this machine. In: two places, or one and a tar. Out: the same files in the other.

Either side is a descriptor of a root and a path below it, resolved as after a chroot: neither a symlink in a container nor
a name in an archive leads anywhere else. Files travel as the items that layers are made of.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterator
from typing import BinaryIO

from layersmith.containers.receive import Manner, receive
from layersmith.dataclass import dataclass, replace
from layersmith.errors import NotFoundError, UsageError
from layersmith.layer.entry import BLK, CHR, FIFO, REG, SYM, Entry, Item, kept_xattr
from layersmith.layer.scan import scan
from layersmith.layer.tar import PIECE, TarWriter, read_tar
from layersmith.linux.rooted import MOST_LINKS, open_in_root, open_parent_in_root

_KINDS = {stat.S_IFREG: REG, stat.S_IFLNK: SYM, stat.S_IFCHR: CHR, stat.S_IFBLK: BLK, stat.S_IFIFO: FIFO}


@dataclass(frozen=True, slots=True)
class Place:
    """``path`` below the directory that the descriptor ``root`` refers to; ``shown`` is how messages call it.

    ``contained``: it lies in a container, so its files deserve no trust.
    """

    root: int
    path: str
    shown: str
    contained: bool = False

    @property
    def is_content(self) -> bool:
        """Written so as to mean what is in a directory, and not the directory."""
        return self.path.endswith("/.") or self.path == "."

    @property
    def name(self) -> str:
        """The last component; ``""`` for the root."""
        return posixpath.basename(posixpath.normpath(self.path))

    def open(self, *, follow: bool) -> int:
        """An O_PATH descriptor. Raises NotFoundError."""
        try:
            return open_in_root(self.root, self.path, os.O_PATH, follow=follow)
        except OSError as error:
            raise NotFoundError(f"{self.shown}: {error.strerror}") from None

    def is_directory(self) -> bool | None:
        """Whether it is a directory, symlinks followed; None if there is nothing."""
        try:
            fd = open_in_root(self.root, self.path, os.O_PATH)
        except OSError:
            return None
        try:
            return stat.S_ISDIR(os.fstat(fd).st_mode)
        finally:
            os.close(fd)


def copy(source: Place, target: Place, *, follow: bool = False, archive: bool = False) -> None:
    """Copy ``source`` to ``target`` by the rules of docker cp.

    What goes to a directory goes into it, but of a source that ends in ``/.`` only its content; anything else becomes
    the target. ``follow`` a symlink that the source is. Without ``archive`` everything belongs to root (rootless: to
    the caller), and what comes out of a container has lost its set-id bits and capabilities.

    Raises NotFoundError, UsageError: there is no source, or the target can't take it; StepError: a file can't be read.
    """
    fd = source.open(follow=follow or source.path.endswith(("/", "/.")))
    try:
        base, name = _destination(source, target, directory=stat.S_ISDIR(os.fstat(fd).st_mode))
        manner = Manner(owner=archive, privileges=archive or not source.contained)
        receive(items(fd, name), target.root, base, manner)
    finally:
        os.close(fd)


def _destination(source: Place, target: Place, *, directory: bool) -> tuple[str, str]:
    """The directory below ``target.root`` to write into, and the name to write there; ``""`` for content alone."""
    kind = target.is_directory()
    if kind:
        return target.path, "" if directory and (source.is_content or not source.name) else source.name
    if kind is None and target.path.endswith("/") and not directory:
        raise UsageError(f"{target.shown} is no directory", hint="make it first, or leave out the last slash")
    if kind is False and directory:
        raise UsageError(f"can't copy the directory {source.shown} over the file {target.shown}")
    target = _resolved(target)
    parent = posixpath.dirname(target.path.rstrip("/")) or "."
    if not replace(target, path=parent).is_directory():
        raise NotFoundError(f"there is no directory to hold {target.shown}", hint="make it first")
    return parent, target.name


def _resolved(target: Place) -> Place:
    """``target``, or what the symlinks at its end lead to: they are written through, not replaced."""
    path = target.path
    for _ in range(MOST_LINKS):
        try:
            link = _readlink(target.root, path)
        except (OSError, ValueError):
            break
        path = posixpath.join(posixpath.dirname(path), link)
    return replace(target, path=path)


def _readlink(root: int, path: str) -> str:
    parent, name = open_parent_in_root(root, path)
    try:
        return os.fsdecode(os.readlink(name, dir_fd=parent))
    finally:
        os.close(parent)


def items(fd: int, name: str) -> Iterator[Item]:
    """The file or tree that ``fd`` (O_PATH) refers to, as ``name``; for ``""`` what is in the directory."""
    path = os.fsencode(name)
    status = os.fstat(fd)
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFDIR:
        directory = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield from scan(directory, prefix=path, with_root=bool(path))
        finally:
            os.close(directory)
        return
    if kind not in _KINDS:
        raise UsageError(f"{name} is a socket, which can't be copied")
    entry = Entry(
        path,
        _KINDS[kind],
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
        status.st_mtime_ns // 1_000_000_000,
    )
    if kind != stat.S_IFREG:
        link = os.readlink(b"", dir_fd=fd) if kind == stat.S_IFLNK else b""
        yield entry._replace(link=link, major=os.major(status.st_rdev), minor=os.minor(status.st_rdev)), None
        return
    file = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        names = sorted(os.fsencode(key) for key in os.listxattr(file))
        xattrs = tuple((key, os.getxattr(file, key)) for key in names if kept_xattr(key))
        yield entry._replace(size=status.st_size, xattrs=xattrs), file
    finally:
        os.close(file)


def write_tar(source: Place, stream: BinaryIO, *, follow: bool = False) -> None:
    """``source`` as a tar: a directory with its name, or as ``/.`` what is in it. Errors as of `copy`."""
    fd = source.open(follow=follow or source.path.endswith(("/", "/.")))
    try:
        buffer = memoryview(bytearray(PIECE))

        def emit(full: memoryview, length: int) -> memoryview:
            stream.write(full[:length])
            return full

        tar = TarWriter(emit, buffer)
        for entry, content in items(fd, "" if source.is_content else source.name):
            tar.add(entry, content)
        tar.close()
        stream.flush()
    finally:
        os.close(fd)


def read_tar_into(stream: BinaryIO, target: Place, *, archive: bool = False) -> None:
    """Unpack the tar ``stream`` into the directory ``target``. Raises TransportError for what is no tar, and as `copy`."""
    if not target.is_directory():
        raise NotFoundError(f"{target.shown} is no directory", hint="a tar can only be unpacked into one")
    receive(read_tar(stream), target.root, target.path, Manner(owner=archive, privileges=True))
