"""EXECUTE: the sources of a COPY, side by side, on top of a destination. In: contributors, a View. Out: Items in order.

The sources are walked together, one destination directory at a time, so that a name which several of them have is
written once (a tar must not hold a path twice) and memory does not grow with the number of files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from layersmith.dataclass import dataclass
from layersmith.errors import CopyError
from layersmith.execute.destination import Below
from layersmith.execute.scope import Verdict
from layersmith.execute.source import Child, Contributor
from layersmith.layer.entry import DIR, WHITEOUT_PREFIX, Entry, Item

Given = tuple[Contributor, Any, Child]
"""A contributor, its open directory, and a name in it."""


@dataclass(slots=True)
class _Frame:
    """A destination directory being written: who contributes to it, and what is still to come."""

    opened: list[tuple[Contributor, Any]]
    names: Iterator[tuple[bytes, list[Given], Entry | None]]
    """(path, who has it, what the layers below have there), in order."""


class Merge:
    """Writes ``contributors``, in their order, into the directory ``path`` of ``view``.

    ``pending`` are entries that must come first if anything is written at all: the directories that lead here.
    ``now`` is the time of directories that no contributor has attributes for.
    """

    def __init__(
        self,
        view: Below,
        path: bytes,
        contributors: Sequence[Contributor],
        pending: Sequence[Entry] = (),
        *,
        now: int,
    ) -> None:
        self._view = view
        self._path = path
        self._contributors = contributors
        self._now = now
        self._pending: list[tuple[int, Entry | CopyError]] = [(0, entry) for entry in pending]
        """(depth of the frame, entry): directories that are written only before something below them."""

    def items(self, *, exists: bool, created: bool) -> Iterator[Item]:
        """The items.

        ``exists`` says whether the layers below have the directory ``path``; ``created`` that some of ``pending`` is
        new and therefore written in any case.
        """
        stack: list[_Frame] = []
        try:
            if created:
                yield from self._flush()
            stack.append(self._top(exists=exists))
            while stack:
                for path, given, below in stack[-1].names:
                    contributor, directory, child = given[-1]
                    if child.is_dir:
                        yield from self._directory(stack, path, given, below)
                        break
                    if self._pending:
                        yield from self._flush()
                    item = contributor.item(directory, child, path)
                    try:
                        yield item
                    finally:
                        if type(item[1]) is int:
                            os.close(item[1])
                else:
                    self._drop(stack.pop(), len(stack))
        finally:
            while stack:
                self._drop(stack.pop(), 0)

    def _top(self, *, exists: bool) -> _Frame:
        frame = _Frame([], iter(()))
        try:
            for contributor in self._contributors:
                frame.opened.append((contributor, contributor.enter(None, None)))
        except BaseException:
            self._drop(frame, 0)
            raise
        frame.names = self._names(self._path, frame.opened, exists=exists)
        return frame

    def _directory(
        self, stack: list[_Frame], path: bytes, given: list[Given], below: Entry | None
    ) -> Iterator[Item]:
        """Write the directory ``path``, or remember it until something below is written; go into it."""
        exists = below is not None and below.kind == DIR
        entry = below if exists else None
        frame = _Frame([], iter(()))
        stack.append(frame)  # from here on, what is opened is closed
        for contributor, directory, child in given:
            inner = contributor.enter(directory, child)
            frame.opened.append((contributor, inner))
            own = contributor.entry(inner, path)
            if own is None:
                continue
            if entry is not None and (contributor.keeps_existing or child.verdict is Verdict.PASS):
                entry = entry._replace(mode=own.mode)
            else:
                entry = own
        # nobody has attributes for what an archive merely implies
        self._pending.append((len(stack), entry or Entry(path, DIR, 0o755, 0, 0, self._now)))
        if below is not None and not exists and not given[-1][0].replaces:
            self._pending.append((len(stack), _not_a_directory(path)))
        if any(child.verdict is Verdict.KEEP for _, _, child in given):
            yield from self._flush()
        frame.names = self._names(path, frame.opened, exists=exists)

    def _names(
        self, path: bytes, opened: list[tuple[Contributor, Any]], *, exists: bool
    ) -> Iterator[tuple[bytes, list[Given], Entry | None]]:
        prefix = path + b"/" if path else b""
        names: dict[bytes, list[Given]] = {}
        for contributor, directory in opened:
            for child in contributor.children(directory):
                given = (contributor, directory, child)
                if child.name in names:
                    names[child.name].append(given)
                else:
                    names[child.name] = [given]
        below = {entry.name: entry for entry in self._view.children(path)} if exists and names else {}
        alone = len(opened) == 1 and not below
        for name in sorted(names):
            given_here = names[name]
            there = prefix + name
            if name.startswith(WHITEOUT_PREFIX):
                raise CopyError(
                    f"/{os.fsdecode(there)} can't be in an image: names that start with .wh. mark deletions there",
                    hint="rename it, or leave it out with .dockerignore or --exclude",
                )
            if alone:
                yield there, given_here, None
            else:
                yield there, _last_word(there, given_here, below.get(name)), below.get(name)

    def _flush(self) -> Iterator[Item]:
        if self._pending:
            for _, entry in self._pending:
                if isinstance(entry, CopyError):
                    raise entry
                yield entry, None
            self._pending.clear()

    def _drop(self, frame: _Frame, depth: int) -> None:
        """Close a directory and forget what was never needed for it."""
        for contributor, directory in frame.opened:
            contributor.leave(directory)
        while self._pending and self._pending[-1][0] > depth:
            self._pending.pop()


def _last_word(path: bytes, given: list[Given], below: Entry | None) -> list[Given]:
    """Who decides about ``path``: one contributor for a file, all that follow one another for a directory.

    Raises:
        CopyError: a file would replace a directory, or a directory a file, and not out of an archive.
    """
    result: list[Given] = []
    is_dir = below.kind == DIR if below is not None else None
    for one in given:
        contributor, _, child = one
        if is_dir is not None and child.is_dir != is_dir and not contributor.replaces:
            if not child.is_dir:
                raise CopyError(
                    f"can't replace the directory /{os.fsdecode(path)} with a file",
                    hint="remove the directory in an earlier RUN, or copy to another place",
                )
            if child.verdict is Verdict.KEEP or result:
                raise _not_a_directory(path)
        result = [*result, one] if child.is_dir and is_dir else [one]
        is_dir = child.is_dir
    return result


def _not_a_directory(path: bytes) -> CopyError:
    return CopyError(
        f"can't copy a directory to /{os.fsdecode(path)}, which is not a directory there",
        hint="remove it in an earlier RUN, or copy to another place",
    )
