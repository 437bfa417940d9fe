"""EXECUTE: `Tree`, a directory that a COPY reads from. In: a context or the merged files of a step. Out: safe access.

Whatever lies below is hostile: paths are resolved here, component by component and never above the root, and opened
without following a single symlink.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from layersmith.context import Context, Ignore
from layersmith.context.patterns import clean
from layersmith.dataclass import dataclass
from layersmith.errors import CopyError

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""O_NONBLOCK: a fifo put in a file's place must not hang the build."""
MAX_LINKS = 40
"""Symlinks followed for one path, as the kernel's ELOOP."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A source root on disk."""

    root: Path
    label: str
    """How messages call it: ``the build context``, ``stage build``."""
    ignore: Ignore | None = None
    keep_owners: bool = True
    """Off for contexts, whose files all become 0:0."""

    @classmethod
    def of_context(cls, context: Context) -> Tree:
        """The tree of a build context: ignore rules apply, owners become 0:0."""
        return cls(context.root, context.label, context.ignore, keep_owners=False)

    @contextmanager
    def open(self) -> Iterator[OpenTree]:
        """The tree with its root open. Raises CopyError where the root can't be read."""
        try:
            fd = os.open(self.root, DIRECTORY & ~os.O_NOFOLLOW)
        except OSError as error:
            raise CopyError(f"can't read {self.label}: {error.strerror}") from error
        try:
            yield OpenTree(self, fd)
        finally:
            os.close(fd)


@dataclass(frozen=True, slots=True)
class Found:
    """Something visible in a tree: its real path (relative, no symlink left in it) and what lstat says."""

    path: str
    stat: os.stat_result

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.stat.st_mode)


@dataclass(frozen=True, slots=True)
class OpenTree:
    """A tree whose root directory is the descriptor ``fd``."""

    tree: Tree
    fd: int

    def find(self, path: str) -> Found | None:
        """What ``path`` (``..`` clamps at the root) leads to, symlinks followed inside the root; None if not visible.

        Raises:
            CopyError: more than 40 symlinks, or something on the way can't be looked at.
        """
        checked_name(path)
        todo = clean("/" + path).split("/")[::-1]
        real: list[str] = []
        status = os.fstat(self.fd)
        links = 0
        while todo:
            part = todo.pop()
            if part in ("", "."):
                continue
            if part == "..":
                real = real[:-1]
                status = self._lstat("/".join(real))
                continue
            here = "/".join((*real, part))
            try:
                status = self._lstat(here)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
                    return None
                raise CopyError(f'can\'t look at "{path}" in {self.tree.label}: {error.strerror}') from error
            if not stat.S_ISLNK(status.st_mode):
                real.append(part)
                continue
            links += 1
            if links > MAX_LINKS:
                raise CopyError(f'"{path}" in {self.tree.label} is a loop of symbolic links')
            if self._hidden(here):
                return None
            target = os.readlink(here, dir_fd=self.fd)
            if target.startswith("/"):
                real = []
            status = self._lstat("/".join(real))
            todo.extend(target.split("/")[::-1])
        found = Found("/".join(real), status)
        if real and self._hidden(found.path) and not (found.is_dir and self._shows_below(found.path)):
            return None
        return found

    def missing(self, path: str) -> CopyError:
        """The error for a literal source that `find` does not find: what hid it, or what comes nearest."""
        wanted = clean("/" + path).lstrip("/")
        message = f'"{path}" does not exist in {self.tree.label}'
        ignore = self.tree.ignore
        if ignore is not None and os.path.lexists(self.tree.root / wanted):
            rule = ignore.rule_for(wanted)
            if rule is not None:
                return CopyError(
                    f'"{path}" is hidden from COPY by {rule.span.source.name}',
                    hint=f'line {rule.span.line} ("{rule.text}") hides it: change that line, or add "!{wanted}" below it',
                )
        import difflib

        parent, parts = "", wanted.split("/")
        for index, part in enumerate(parts):
            try:
                with self.directory(parent) as fd, os.scandir(fd) as entries:
                    names = [e.name for e in entries if not self._hidden(f"{parent}/{e.name}".lstrip("/"))]
            except OSError:
                break
            if part in names and index < len(parts) - 1:
                parent = f"{parent}/{part}".lstrip("/")
                continue
            near = difflib.get_close_matches(part, names, n=1, cutoff=0.6)
            if part in names:
                return CopyError(
                    message,
                    hint=f'"{parent}/{part}" is a symbolic link that leads nowhere'.replace('"/', '"'),
                )
            if near:
                meant = "/".join((*filter(None, [parent]), near[0]))
                rest = "/".join((meant, *parts[index + 1 :]))
                return CopyError(message, hint=f'did you mean "{rest if self.find(rest) else meant}"?')
            break
        nearest = f'the nearest path that exists is "{parent}/"' if parent else "paths start at its root"
        return CopyError(message, hint=nearest)

    @contextmanager
    def directory(self, path: str) -> Iterator[int]:
        """A descriptor of the real directory ``path``, opened without following symlinks."""
        fd = open_beneath(self.fd, path)
        try:
            yield fd
        finally:
            os.close(fd)

    def _lstat(self, path: str) -> os.stat_result:
        return os.stat(path or ".", dir_fd=self.fd, follow_symlinks=False)

    def _hidden(self, path: str) -> bool:
        return self.tree.ignore is not None and self.tree.ignore.hides(path)

    def _shows_below(self, path: str) -> bool:
        """Whether something below the hidden directory ``path`` is re-included."""
        ignore = self.tree.ignore
        assert ignore is not None
        todo = [path]
        while todo:
            above = todo.pop()
            if not ignore.patterns.may_unmatch_below(above):
                continue
            with self.directory(above) as fd, os.scandir(fd) as entries:
                for entry in entries:
                    child = f"{above}/{entry.name}"
                    if not ignore.hides(child):
                        return True
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(child)
        return False


def checked_name(path: str) -> str:
    """``path``, which the file system can have.

    Raises:
        CopyError: a NUL, or a character that stands for no bytes (half a surrogate pair, from JSON).
    """
    try:
        if b"\0" not in os.fsencode(path):
            return path
    except UnicodeEncodeError:
        pass
    raise CopyError(f"{path!r} can't be the name of a file")


def open_beneath(root: int, path: str) -> int:
    """A new descriptor of the directory ``path`` below ``root``; a symlink anywhere in ``path`` is an OSError."""
    fd = os.open(".", DIRECTORY, dir_fd=root)
    for part in filter(None, path.split("/")):
        try:
            deeper = os.open(part, DIRECTORY, dir_fd=fd)
        finally:
            os.close(fd)
        fd = deeper
    return fd
