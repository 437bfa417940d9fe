"""DIFF: an overlay's upper directory to the items of a layer. In: upper (and what lies below). Out: `Item`s.

What overlayfs writes into upper is in Documentation/filesystems/overlayfs.rst; what a layer holds instead is in
image-spec's layer.md, "Representing Changes".
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from layersmith.errors import StepError
from layersmith.layer.entry import DIR, WHITEOUT_PREFIX, Entry, Item, opaque, whiteout
from layersmith.layer.files import Files, listing, reading

if TYPE_CHECKING:
    from layersmith.layer.view import View

_DEFAULT_ROOT = Entry(b"", DIR, 0o755)


def changes(upper: Path, *, lower: View | None, xattr_namespace: str = "trusted") -> Iterator[Item]:
    """The entries that make ``lower`` into what the overlay of ``upper`` on it shows.

    ``lower`` is the files of the layers below; with it an opaque directory becomes explicit whiteouts (image-spec:
    writers SHOULD), and a whiteout of nothing is left out; without it ``.wh..wh..opq`` is written. Directories
    come before their content, names in byte order, whiteouts first. A hard link's first name carries the content.
    Sockets are left out. The root directory is an entry only where its mode, owner or xattrs are not lower's.
    ``xattr_namespace`` is ``trusted``, or ``user`` for an overlay mounted with ``userxattr``.

    Raises StepError where the upper directory can't be a layer (a real name that starts with ``.wh.``, a redirect
    or a metacopy), or a file changes while it is read.
    """
    files = Files(xattr_namespace + ".overlay.")
    with reading(str(upper)):
        yield from _Walk(files, lower).run(files.open_directory(upper))


class _Walk:
    """One walk through an upper directory."""

    def __init__(self, files: Files, lower: View | None) -> None:
        self._files = files
        self._lower = lower
        self._stack: list[tuple[int, bytes, bool, Iterator[tuple[bytes, os.DirEntry[str]]]]] = []

    def run(self, fd: int) -> Iterator[Item]:
        files = self._files
        root, is_opaque = self._enter(fd, b"", in_opaque=False)
        before = self._lower.lookup(b"") if self._lower is not None else _DEFAULT_ROOT
        if before is None or (root.mode, root.uid, root.gid, root.xattrs) != (
            before.mode,
            before.uid,
            before.gid,
            before.xattrs,
        ):
            yield root, None
        yield from self._list(fd, b"", is_opaque=is_opaque)
        try:
            while self._stack:
                fd, prefix, is_opaque, names = self._stack[-1]
                for name, found in names:
                    path = prefix + name
                    if found.is_file(follow_symlinks=False):
                        entry, content = files.regular(found.name, fd, path)
                        try:
                            yield entry, content
                        finally:
                            if content is not None:
                                os.close(content)
                    elif found.is_dir(follow_symlinks=False):
                        child = files.open_directory(found.name, fd)
                        entry, child_opaque = self._enter(child, path, in_opaque=is_opaque)
                        yield entry, None
                        yield from self._list(child, path + b"/", is_opaque=child_opaque)
                        break
                    else:
                        st = os.stat(found.name, dir_fd=fd, follow_symlinks=False)
                        other = files.other(found.name, fd, path, st)
                        if other is not None:
                            yield other, None
                else:
                    os.close(fd)
                    self._stack.pop()
        finally:
            for fd, *_ in self._stack:
                os.close(fd)

    def _enter(self, fd: int, path: bytes, *, in_opaque: bool) -> tuple[Entry, bool]:
        try:
            entry, is_opaque = self._files.directory(fd, path)
        except BaseException:
            os.close(fd)
            raise
        return entry, is_opaque or in_opaque

    def _list(self, fd: int, prefix: bytes, *, is_opaque: bool) -> Iterator[Item]:
        """The whiteouts in the directory; what else is in it is put on the stack."""
        found, gone = [], set()
        try:
            for name, entry in listing(fd):
                if name.startswith(WHITEOUT_PREFIX):
                    raise StepError(
                        f"{os.fsdecode(prefix + name)!r}: a file's name can't start with .wh. in a layer, "
                        "where that means a deleted file",
                        hint="rename it, or remove it in the same step",
                    )
                if _is_whiteout(entry, fd):
                    gone.add(name)
                else:
                    found.append((name, entry))
        finally:
            self._stack.append((fd, prefix, is_opaque, iter(found)))
        if self._lower is None:
            if is_opaque:
                # All that is in an opaque directory is new, so none in it needs to say so again.
                if not any(above for _, _, above, _ in self._stack[:-1]):
                    yield opaque(prefix[:-1]), None
                return
        elif is_opaque:
            present = {name for name, _ in found}
            gone = {child.name for child in self._lower.children(prefix[:-1])} - present
        for name in sorted(gone):
            if self._lower is None or is_opaque or self._lower.lookup(prefix + name) is not None:
                yield whiteout(prefix + name), None


def _is_whiteout(entry: os.DirEntry[str], fd: int) -> bool:
    if entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False) or entry.is_symlink():
        return False
    st = os.stat(entry.name, dir_fd=fd, follow_symlinks=False)
    return stat.S_ISCHR(st.st_mode) and st.st_rdev == 0
