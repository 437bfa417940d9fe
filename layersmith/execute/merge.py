"""EXECUTE: the sources of a COPY, side by side, on top of a destination. In: contributors, a View. Out: Items in order.

The sources are walked together, one destination directory at a time, so that a name which several of them have is
written once (a tar must not hold a path twice) and memory does not grow with the number of files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from layersmith.errors import CopyError
from layersmith.execute.destination import Below
from layersmith.execute.scope import Verdict
from layersmith.execute.source import Child, Contributor
from layersmith.layer.entry import DIR, WHITEOUT_PREFIX, Entry, Item

Given = tuple[Contributor, Any, Child]
"""A contributor, its open directory, and a name in it."""


@dataclass(slots=True)
class _Frame:
    """A destination directory being written: who contributes to it, and the names still to come (last is next)."""

    path: bytes
    opened: list[tuple[Contributor, Any]]
    names: list[tuple[bytes, list[Given]]]
    below: dict[bytes, Entry] = field(default_factory=dict)
    """What the layers below have in it, by name."""


class Merge:
    """Writes ``contributors``, in their order, into the directory ``path`` of ``view``.

    ``pending`` are entries that must come first if anything is written at all: the directories that lead here.
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
        self._now = now
        self._view = view
        self._path = path
        self._contributors = contributors
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
            opened = [(c, c.enter(None, None)) for c in self._contributors]
            stack.append(self._frame(self._path, opened, exists=exists))
            while stack:
                frame = stack[-1]
                if not frame.names:
                    self._drop(stack.pop(), len(stack))
                    continue
                name, given = frame.names.pop()
                path = frame.path + b"/" + name if frame.path else name
                if name.startswith(WHITEOUT_PREFIX):
                    raise CopyError(
                        f"/{os.fsdecode(path)} can't be in an image: names that start with .wh. mark deletions there",
                        hint="rename it, or leave it out with .dockerignore or --exclude",
                    )
                below = frame.below.get(name)
                given = _last_word(path, given, below)
                if given[-1][2].is_dir:
                    yield from self._directory(stack, path, given, below)
                else:
                    yield from self._flush()
                    contributor, directory, child = given[-1]
                    item = contributor.item(directory, child, path)
                    try:
                        yield item
                    finally:
                        if type(item[1]) is int:
                            os.close(item[1])
        finally:
            while stack:
                self._drop(stack.pop(), 0)

    def _directory(
        self, stack: list[_Frame], path: bytes, given: list[Given], below: Entry | None
    ) -> Iterator[Item]:
        """Write the directory ``path``, or remember it until something below is written; go into it."""
        opened: list[tuple[Contributor, Any]] = []
        exists = below is not None and below.kind == DIR
        stack.append(_Frame(path, opened, []))  # from here on, what is opened is closed
        entry = below if exists else None
        for contributor, directory, child in given:
            inner = contributor.enter(directory, child)
            opened.append((contributor, inner))
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
        stack[-1] = self._frame(path, opened, exists=exists)

    def _frame(self, path: bytes, opened: list[tuple[Contributor, Any]], *, exists: bool) -> _Frame:
        names: dict[bytes, list[Given]] = {}
        for contributor, directory in opened:
            for child in contributor.children(directory):
                names.setdefault(child.name, []).append((contributor, directory, child))
        frame = _Frame(path, opened, sorted(names.items(), reverse=True))
        if exists and names:
            frame.below = {entry.name: entry for entry in self._view.children(path)}
        return frame

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
