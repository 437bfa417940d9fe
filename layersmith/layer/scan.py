"""A directory tree on disk to items, for COPY and import. In: a directory and a filter. Out: `Item`s."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from pathlib import Path

from layersmith.layer.entry import Entry, Item


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
    raise NotImplementedError
