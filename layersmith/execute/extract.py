"""EXECUTE: an archive to a directory of files, for contexts. In: an archive file. Out: files below a new directory."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from layersmith.errors import NotFoundError
from layersmith.execute.archive import open_archive
from layersmith.execute.archive_source import ArchiveSource
from layersmith.execute.destination import Destination
from layersmith.execute.merge import Merge
from layersmith.execute.selection import Selected
from layersmith.execute.source import Looks
from layersmith.execute.tree import Tree
from layersmith.layer.entry import DIR, FIFO, LNK, REG, SYM, Content, Entry

BLOCK = 1 << 20


class Nothing:
    """The files of no layer; a `destination.Below`."""

    def lookup(self, path: bytes) -> Entry | None:
        return None if path else Entry(b"", DIR, 0o755)

    def resolve(self, path: bytes, *, follow_last: bool = True) -> bytes:
        return path.strip(b"/")

    def children(self, path: bytes) -> Iterator[Entry]:
        return iter(())

    def walk(self, path: bytes = b"") -> Iterator[Entry]:
        return iter(())

    def read(self, path: bytes, *, limit: int = 1 << 20) -> bytes:
        raise NotFoundError(f"no such file: {os.fsdecode(path)}")


def extract_archive(file: Path, into: Path) -> bool:
    """Unpack ``file`` into the empty directory ``into``; False, and nothing done, if it is not an archive.

    Owners and devices are not kept: a context has neither.

    Raises:
        CopyError: the archive is damaged.
        HostileInputError: it is beyond the limits.
    """
    nothing = Nothing()
    destination = Destination(nothing, b"", wants_directory=True, entry=nothing.lookup(b""), lead=())
    with ExitStack() as stack:
        tree = stack.enter_context(Tree(file.parent, "the archive").open())
        found = tree.find(file.name)
        archive = (
            open_archive(Selected(file.name, tree, found, shown=file.name)) if found is not None else None
        )
        if archive is None:
            return False
        stack.callback(archive.close)
        source = ArchiveSource(destination, Looks(None, None, 0), into.parent)
        stack.callback(source.close)
        source.extract(archive)
        directories = []
        for entry, content in Merge(nothing, b"", [source], now=0).items(exists=False, created=False):
            path = into / os.fsdecode(entry.path)
            _make(path, entry, content, into)
            if entry.kind == DIR:
                directories.append((path, entry))
        for path, entry in reversed(directories):
            path.chmod(entry.mode | stat.S_IRWXU)
            os.utime(path, (entry.mtime, entry.mtime))
    return True


def _make(path: Path, entry: Entry, content: Content, root: Path) -> None:
    """Make one file. Its parents are directories that we made: the merged tree has no name twice."""
    if entry.kind == DIR:
        path.mkdir(0o700)
        return
    if entry.kind == SYM:
        os.symlink(entry.link, os.fsencode(path))
    elif entry.kind == LNK:
        path.hardlink_to(root / os.fsdecode(entry.link))
        return
    elif entry.kind == REG:
        with path.open("xb") as file:
            if isinstance(content, bytes):
                file.write(content)
            elif content is not None and not isinstance(content, int):
                while data := content.read(BLOCK):
                    file.write(data)
    elif entry.kind == FIFO:
        os.mkfifo(path)
    else:
        return
    if entry.kind != SYM:
        path.chmod(entry.mode)
    os.utime(path, (entry.mtime, entry.mtime), follow_symlinks=False)
