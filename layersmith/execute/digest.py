"""EXECUTE: what a copy takes from its sources, as a digest. In: `Selected`, a stat cache. Out: `CopyInputs`.

Only what would be copied is read. Modes, owners (where they survive), link targets, device numbers, xattrs and
bodies enter, and the names by which they arrive; times never do (REFERENCE 4).
"""

from __future__ import annotations

import hashlib
import itertools
import os
import stat
import time
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from layersmith.dataclass import dataclass
from layersmith.errors import CopyError
from layersmith.execute.scope import Scope, Verdict
from layersmith.execute.selection import Identified, Inline, Selected
from layersmith.execute.tree import DIRECTORY, FILE, OpenTree, open_beneath
from layersmith.layer.files import Files

if TYPE_CHECKING:
    from layersmith.store.statcache import Stat, StatCache

BLOCK = 1 << 20
FEW = 8
STALE = 10_000
"""Files of a context that may be gone before they are forgotten."""

Pairs = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class CopyInputs:
    """What a copy takes from its sources: ``digest`` over all of it, and if asked for, (path, fingerprint) pairs.

    A fingerprint reads ``file 644 0:0 <sha256>``, ``dir 755 0:0``, ``link -> target``; ``-`` stands for what a flag
    overrides.
    """

    digest: str
    paths: tuple[tuple[str, str], ...]


def digest_inputs(
    chosen: Sequence[Selected | Inline | Identified],
    *,
    owner: bool,
    mode: bool,
    listed: bool,
    stats: StatCache | None,
) -> CopyInputs:
    """Digest the sources. ``owner`` and ``mode`` say whether the sources' own arrive (no ``--chown``, ``--chmod``).

    With ``listed`` the result has its pairs; without, memory does not grow with the number of files.

    Raises:
        CopyError: a file can't be read.
    """
    tables: dict[int, _Table] = {}
    total = _Total(listed=listed)
    for one in chosen:
        if isinstance(one, Inline):
            total.pairs.append((f"<<{one.name}", f"file {hashlib.sha256(one.data).hexdigest()}"))
        elif isinstance(one, Identified):
            total.pairs.append((one.shown, one.identity))
        else:
            table = tables.setdefault(id(one.tree), _Table(one.tree, stats))
            _Walk(one, table, total, owner=owner and one.tree.tree.keep_owners, mode=mode).run()
        total.end_source()
    for table in tables.values():
        table.save()
    return CopyInputs("sha256:" + total.hasher.hexdigest(), tuple(total.listed or ()))


class _Total:
    """The digest over all pairs. Whoever appends to ``pairs`` calls `take` now and then."""

    def __init__(self, *, listed: bool) -> None:
        self.hasher = hashlib.sha256()
        self.pairs: Pairs = []
        self.listed: Pairs | None = [] if listed else None

    def take(self) -> None:
        """Put the pairs into the digest and forget them."""
        if self.pairs:
            # paths are never empty and hold no NUL, nor do fingerprints: neither they nor sources run together
            text = "\0".join(itertools.chain.from_iterable(self.pairs))
            self.hasher.update(text.encode("utf-8", "surrogateescape") + b"\0")
            if self.listed is not None:
                self.listed += self.pairs
            self.pairs.clear()

    def end_source(self) -> None:
        self.take()
        self.hasher.update(b"\0")


class _Table:
    """Content digests of one tree, remembered in the stat cache."""

    def __init__(self, tree: OpenTree, stats: StatCache | None) -> None:
        # a stage's tree is mounted at a new place each time: remembering it would only fill the cache
        self._stats = stats if not tree.tree.keep_owners else None
        self._root = os.fsencode(os.path.realpath(tree.tree.root))
        self._started = time.time_ns()
        self._known: dict[bytes, Stat] | None = None
        self._used: dict[bytes, Stat] = {}
        self._changed = False
        self._small = 0
        self._buffer = memoryview(bytearray(BLOCK))
        self._files = Files()

    def content(self, directory: int, name: str, path: bytes, status: os.stat_result) -> bytes:
        """SHA-256 of a regular file's body, mixed with its xattrs if it has any."""
        known = self._known
        if known is None:
            if self._stats is None:
                return self._read(directory, name)
            if status.st_size < BLOCK and self._small < FEW:
                # loading the table of a large context costs more than reading a few small files
                self._small += 1
                return self._read(directory, name)
            known = self._known = self._stats.load(self._root)
        stat_ = known.get(path)
        now = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if stat_ is None or stat_[:4] != now:
            digest = self._read(directory, name)
            stat_ = self._stat(*now, digest)
            self._changed = True
        self._used[path] = stat_
        return stat_[4]

    def save(self) -> None:
        """Remember what was read. What was not asked for stays, unless that is most of the table."""
        if self._stats is None or self._known is None or not self._changed:
            return
        stale = len(self._known) > 2 * len(self._used) + STALE
        files = self._used if stale else {**self._known, **self._used}
        self._stats.save(self._root, files, started_ns=self._started)

    @cached_property
    def _stat(self) -> type[Stat]:
        from layersmith.store.statcache import Stat

        return Stat

    def _read(self, directory: int, name: str) -> bytes:
        fd = os.open(name, FILE, dir_fd=directory)
        try:
            hasher = hashlib.sha256()
            while count := os.readv(fd, [self._buffer]):
                hasher.update(self._buffer[:count])
            attributes, _ = self._files.xattrs(fd, b"")
        finally:
            os.close(fd)
        if attributes:
            hasher.update(repr(attributes).encode())
        return hasher.digest()


class _Walk:
    """Adds (path, fingerprint) to ``total`` for all of one source, sorted in each directory."""

    def __init__(self, selected: Selected, table: _Table, total: _Total, *, owner: bool, mode: bool) -> None:
        self._selected = selected
        self._table = table
        self._total = total
        self._owner = owner
        self._mode = mode
        self._files = Files()
        self._names: dict[tuple[int, int], str] = {}
        self._starts: dict[int, str] = {}
        """``file 644 - `` by st_mode."""

    def run(self) -> None:
        found = self._selected.found
        parent, _, name = found.path.rpartition("/")
        try:
            if found.is_dir:
                fd = open_beneath(self._selected.tree.fd, found.path)
                self._directory(fd, found.path + "/" if found.path else "", self._selected.scope)
                return
            fd = open_beneath(self._selected.tree.fd, parent)
            try:
                print_ = self._fingerprint(fd, name, found.path, os.fsencode(found.path), found.stat)
            finally:
                os.close(fd)
            self._total.pairs.append((self._selected.shown, print_))
            if name != self._selected.name:
                self._total.pairs.append((f"{self._selected.shown} as", self._selected.name))
        except OSError as error:
            path = f"{found.path}/{error.filename or ''}".strip("/")
            label = self._selected.tree.tree.label
            raise CopyError(
                f'can\'t read "{path}" of {label}: {error.strerror}', hint="is it readable for you?"
            ) from error

    def _directory(self, fd: int, prefix: str, scope: Scope | None) -> None:
        """What is in the directory ``fd``, which is closed at the end."""
        paths, fingerprint = self._total.pairs, self._fingerprint
        lazy: list[tuple[int, tuple[str, str]]] = []
        stack = [(fd, prefix, os.fsencode(prefix), _names_in(fd, scope))]
        try:
            while stack:
                fd, prefix, raw_prefix, names = stack[-1]
                while names:
                    raw, text, is_dir, verdict, inner, status = names.pop()
                    path = prefix + text
                    if not is_dir:
                        pair = path, fingerprint(fd, text, path, raw_prefix + raw, status)
                    else:
                        deeper = os.open(raw, DIRECTORY, dir_fd=fd)
                        stack.append((deeper, path + "/", raw_prefix + raw + b"/", _names_in(deeper, inner)))
                        xattrs, _ = self._files.xattrs(deeper, raw)
                        pair = path, f"dir {self._looks(os.fstat(deeper))} {xattrs or ''}"
                        if verdict is not Verdict.KEEP:
                            lazy.append((len(stack), pair))
                            break
                    if lazy:
                        paths += [waiting for _, waiting in lazy]
                        lazy.clear()
                    paths.append(pair)
                    if is_dir:
                        break
                else:
                    os.close(stack.pop()[0])
                    self._total.take()
                    while lazy and lazy[-1][0] > len(stack):
                        lazy.pop()
        finally:
            for fd, *_ in stack:
                os.close(fd)

    def _fingerprint(self, directory: int, name: str, path: str, raw: bytes, status: os.stat_result) -> str:
        mode = status.st_mode
        if stat.S_ISREG(mode):
            start = None if self._owner else self._starts.get(mode)
            if start is None:
                start = self._starts[mode] = f"file {self._looks(status)} "
            print_ = start + self._table.content(directory, name, raw, status).hex()
            if status.st_nlink > 1:
                first = self._names.setdefault((status.st_dev, status.st_ino), path)
                if first != path:
                    return f"{print_} hard link of {first}"
            return print_
        if stat.S_ISLNK(mode):
            target = os.readlink(name, dir_fd=directory)
            owner = f" {status.st_uid}:{status.st_gid}" if self._owner else ""
            return f"link{owner} -> {target}"
        looks = self._looks(status)
        if stat.S_ISSOCK(mode):
            return f"socket {looks}"
        if stat.S_ISFIFO(mode):
            return f"fifo {looks}"
        kind = "char" if stat.S_ISCHR(mode) else "block"
        return f"{kind} {looks} {os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"

    def _looks(self, status: os.stat_result) -> str:
        mode = f"{status.st_mode & 0o7777:o}" if self._mode else "-"
        return f"{mode} {status.st_uid}:{status.st_gid}" if self._owner else f"{mode} -"


def _names_in(
    fd: int, scope: Scope | None
) -> list[tuple[bytes, str, bool, Verdict, Scope | None, os.stat_result]]:
    """(name, as text, is it a directory, verdict, its scope, stat) of what is copied of ``fd``, last name first."""
    names = []
    verdict = Verdict.KEEP
    inner: Scope | None = None
    with os.scandir(fd) as entries:
        for entry in entries:
            text = entry.name
            is_dir = entry.is_dir(follow_symlinks=False)
            if scope is not None:
                verdict, inner = scope.judge(text, is_dir=is_dir)
                if verdict is Verdict.SKIP:
                    continue
            names.append((os.fsencode(text), text, is_dir, verdict, inner, entry.stat(follow_symlinks=False)))
    names.sort(reverse=True)
    return names
