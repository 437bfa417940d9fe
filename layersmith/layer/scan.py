"""A directory tree on disk to items, for COPY and import. In: a directory and a filter. Out: `Item`s."""

from __future__ import annotations

import enum
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from layersmith.layer.entry import REG, Entry, Item
from layersmith.layer.files import Files, listing, reading

_IS_DIRECTORY = True


class Verdict(enum.Enum):
    """What a filter says about a path."""

    KEEP = "keep"
    """Write it; for a directory, ask about what is in it as well."""
    SKIP = "skip"
    """Leave it out with all that is in it."""
    DESCEND = "descend"
    """A directory that is written only if something below it is kept."""


def scan(
    root: Path | int,
    *,
    prefix: bytes = b"",
    select: Callable[[bytes, bool], Verdict] | None = None,
    change: Callable[[Entry], Entry] | None = None,
    with_root: bool = False,
) -> Iterator[Item]:
    """The files below ``root`` (a path, or a directory's descriptor), parents first, names in byte order.

    Paths given to ``select(path, is_dir)`` are relative to ``root``; entries have ``prefix/`` put before them.
    ``change`` rewrites each entry (owner, mode, mtime) before it is given out; it must not change kind or size.
    ``with_root`` gives the root directory itself first, as ``prefix``. No symlink is ever followed, files are
    opened with O_NOFOLLOW and O_NONBLOCK and looked at through the descriptor, so a file that is swapped for
    something else while the scan runs is never read. Hard links are kept within one scan; a socket becomes an empty
    file (as in BuildKit's COPY). Raises StepError where a file can't be read.
    """
    files = Files()
    with reading("the descriptor's directory" if isinstance(root, int) else str(root)):
        fd = os.dup(root) if isinstance(root, int) else files.open_directory(root)
        walk = _Walk(files, prefix + b"/" if prefix else b"", select)
        items = walk.run(fd, with_root=with_root)
        if change is None:
            yield from items
        else:
            for entry, content in items:
                yield change(entry), content


class _Walk:
    """One walk through a tree; ``_held`` are the directories that wait for something below them to be kept."""

    def __init__(self, files: Files, prefix: bytes, select: Callable[[bytes, bool], Verdict] | None) -> None:
        self._files = files
        self._prefix = prefix
        self._select = select
        self._held: list[Entry] = []

    def run(self, fd: int, *, with_root: bool) -> Iterator[Item]:
        files, select, prefix = self._files, self._select, self._prefix
        stack: list[tuple[int, bytes, Iterator[tuple[bytes, os.DirEntry[str]]], int]] = []
        try:
            stack.append((fd, b"", iter(listing(fd)), 0))
            if with_root:
                yield files.directory(fd, prefix[:-1])[0], None
            while stack:
                fd, above, names, held = stack[-1]
                for name, found in names:
                    path = above + name
                    if found.is_dir(follow_symlinks=False):
                        verdict = Verdict.KEEP if select is None else select(path, _IS_DIRECTORY)
                        if verdict is Verdict.SKIP:
                            continue
                        child = files.open_directory(found.name, fd)
                        stack.append((child, path + b"/", iter(listing(child)), len(self._held)))
                        self._held.append(files.directory(child, prefix + path)[0])
                        if verdict is Verdict.KEEP:
                            yield from self._release()
                        break
                    if select is not None and select(path, not _IS_DIRECTORY) is not Verdict.KEEP:
                        continue
                    if self._held:
                        yield from self._release()
                    if found.is_file(follow_symlinks=False):
                        entry, content = files.regular(found.name, fd, prefix + path)
                        try:
                            yield entry, content
                        finally:
                            if content is not None:
                                os.close(content)
                    else:
                        yield self._other(found.name, fd, prefix + path), None
                else:
                    os.close(fd)
                    stack.pop()
                    del self._held[held:]
        finally:
            for fd, *_ in stack:
                os.close(fd)

    def _release(self) -> Iterator[Item]:
        for entry in self._held:
            yield entry, None
        self._held.clear()

    def _other(self, name: str, dir_fd: int, path: bytes) -> Entry:
        st = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        entry = self._files.other(name, dir_fd, path, st)
        if entry is not None:
            return entry
        mtime = st.st_mtime_ns // 1_000_000_000
        return Entry(path, REG, stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid, mtime)
