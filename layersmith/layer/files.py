"""Files on disk to entries: what `changes` and `scan` have in common. In: names in an open directory. Out: `Item`s.

Everything is opened relative to its directory with O_NOFOLLOW and described by what the descriptor says, so that what
is swapped for something else in between is never followed, nor read under another's name.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from layersmith.errors import StepError
from layersmith.layer.entry import BLK, CHR, DIR, FIFO, LNK, REG, SYM, Entry, kept_xattr

_KINDS = {
    stat.S_IFREG: REG,
    stat.S_IFLNK: SYM,
    stat.S_IFCHR: CHR,
    stat.S_IFBLK: BLK,
    stat.S_IFDIR: DIR,
    stat.S_IFIFO: FIFO,
}
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

Xattrs = tuple[tuple[bytes, bytes], ...]


class Files:
    """Makes entries of files, and remembers the hard links met so far.

    ``overlay`` is the prefix of overlayfs's own attributes (``trusted.overlay.``) where the files are an upper
    directory, else empty.
    """

    def __init__(self, overlay: str = "") -> None:
        self._overlay = overlay
        self._links: dict[tuple[int, int], bytes] = {}
        # Reading must not change the access times of what is read; only an owner may ask for that.
        self._noatime = os.O_NOATIME

    def open_directory(self, name: str | bytes | os.PathLike[str], dir_fd: int | None = None) -> int:
        """A descriptor of a directory; the caller closes it."""
        return self._open(name, _DIRECTORY, dir_fd)

    def regular(self, name: str, dir_fd: int, path: bytes) -> tuple[Entry, int | None]:
        """A REG with its open descriptor, which the caller closes, or a LNK to one met before."""
        fd = self._open(name, _FILE, dir_fd)
        try:
            st = os.fstat(fd)
            if not stat.S_ISREG(st.st_mode):
                raise changed(path)
            if st.st_nlink > 1:
                key = st.st_dev, st.st_ino
                first = self._links.setdefault(key, path)
                if first is not path:
                    os.close(fd)
                    return _entry(path, LNK, st, link=first), None
            return (
                Entry(
                    path,
                    REG,
                    st.st_mode & 0o7777,
                    st.st_uid,
                    st.st_gid,
                    st.st_mtime_ns // 1_000_000_000,
                    st.st_size,
                    b"",
                    0,
                    0,
                    self.xattrs(fd, path)[0],
                ),
                fd,
            )
        except BaseException:
            os.close(fd)
            raise

    def directory(self, fd: int, path: bytes) -> tuple[Entry, bool]:
        """The DIR that ``fd`` is, and whether overlayfs has it as opaque."""
        xattrs, opaque = self.xattrs(fd, path)
        return _entry(path, DIR, os.fstat(fd), xattrs=xattrs), opaque

    def other(self, name: str, dir_fd: int, path: bytes, st: os.stat_result) -> Entry | None:
        """What is neither REG nor DIR: None for a socket."""
        kind = _KINDS.get(stat.S_IFMT(st.st_mode))
        if kind is None:
            return None
        if kind in (REG, DIR):
            raise changed(path)
        if st.st_nlink > 1:
            first = self._links.setdefault((st.st_dev, st.st_ino), path)
            if first is not path:
                return _entry(path, LNK, st, link=first)
        if kind == SYM:
            return _entry(path, SYM, st, link=os.fsencode(os.readlink(name, dir_fd=dir_fd)))
        device = (os.major(st.st_rdev), os.minor(st.st_rdev)) if kind in (CHR, BLK) else (0, 0)
        # Opening a device or a FIFO has effects, and there is no lgetxattrat(2) in older kernels.
        pin = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
        try:
            xattrs, _ = self.xattrs(f"/proc/self/fd/{pin}", path)
        finally:
            os.close(pin)
        return _entry(path, kind, st, xattrs=xattrs, device=device)

    def xattrs(self, file: int | str, path: bytes) -> tuple[Xattrs, bool]:
        """The attributes that belong into a layer, sorted, and whether overlayfs's say that ``file`` is opaque.

        Raises StepError where overlayfs's say that the content is somewhere else.
        """
        try:
            names = os.listxattr(file)
        except OSError as error:
            if error.errno in (errno.ENOTSUP, errno.ENOSYS):
                return (), False
            raise
        if not names:
            return (), False
        opaque = False
        kept = []
        for name in names:
            if self._overlay and name.startswith(self._overlay):
                what = name[len(self._overlay) :]
                if what in ("redirect", "metacopy", "whiteout"):
                    raise StepError(
                        f"{os.fsdecode(path)!r} is of an overlay mounted with {what}: its content is not all there",
                        hint="mount it with redirect_dir=off,metacopy=off",
                    )
                if what == "opaque" and os.getxattr(file, name) == b"y":
                    opaque = True
            elif kept_xattr(key := os.fsencode(name)):
                kept.append((key, os.getxattr(file, name)))
        return tuple(sorted(kept)), opaque

    def _open(self, name: str | bytes | os.PathLike[str], flags: int, dir_fd: int | None) -> int:
        try:
            return os.open(name, flags | self._noatime, dir_fd=dir_fd)
        except PermissionError:
            if not self._noatime:
                raise
            return os.open(name, flags, dir_fd=dir_fd)


def listing(fd: int) -> list[tuple[bytes, os.DirEntry[str]]]:
    """The names in a directory, in byte order."""
    with os.scandir(fd) as entries:
        return sorted([(os.fsencode(entry.name), entry) for entry in entries], key=_first)


def changed(path: bytes) -> StepError:
    """For a file that is not any more what it was a moment ago."""
    return StepError(
        f"{os.fsdecode(path)!r} changed while it was read",
        hint="nothing may write to the files while they are put into a layer",
    )


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn an OSError met while walking ``what`` into a StepError."""
    try:
        yield
    except OSError as error:
        name = f" {os.fsdecode(error.filename)!r}" if isinstance(error.filename, (str, bytes)) else ""
        hint = "it is too deep, or `ulimit -n` too low" if error.errno == errno.EMFILE else ""
        raise StepError(f"can't read{name} in {what}: {error.strerror}", hint=hint) from error


def _first(pair: tuple[bytes, os.DirEntry[str]]) -> bytes:
    return pair[0]


def _entry(
    path: bytes,
    kind: bytes,
    st: os.stat_result,
    *,
    link: bytes = b"",
    xattrs: Xattrs = (),
    device: tuple[int, int] = (0, 0),
) -> Entry:
    mtime = st.st_mtime_ns // 1_000_000_000
    mode = 0o777 if kind == SYM else st.st_mode & 0o7777
    return Entry(path, kind, mode, st.st_uid, st.st_gid, mtime, 0, link, *device, xattrs)
