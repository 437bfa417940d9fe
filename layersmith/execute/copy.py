"""EXECUTE: COPY and ADD, written straight to a layer's items. In: a CopyOp, source trees, a View. Out: Items, a digest.

Nothing is mounted or unpacked for the destination: what must be known of it (is it a directory, a link, who owns it)
comes from the View of the layers below. Order of use::

    remote = fetch_remote(op, fetch=…, scratch=…)             # ADD of URLs and git repositories; {} for most ops
    inputs = copy_inputs(op, trees, remote, stats=…)          # what goes into the cache key
    layer = pack(store, copy_items(op, trees, remote, dest, now=…), …)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layersmith.execute.tree import Tree
from layersmith.ops import CopyOp, GitSource, HttpSource, Input

if TYPE_CHECKING:
    from layersmith.layer.entry import Item
    from layersmith.layer.view import View
    from layersmith.store.statcache import StatCache


@dataclass(frozen=True, slots=True)
class Fetched:
    """A remote source on disk: ``tree`` holds it, ``path`` is what to copy of it, ``identity`` enters the key."""

    tree: Tree
    path: str
    identity: str


Remote = Mapping[HttpSource | GitSource, Fetched]


@dataclass(frozen=True, slots=True)
class CopyInputs:
    """What a copy takes from its sources: ``digest`` over all of it, and (path, digest) pairs for ``explain``.

    Modes, sizes, owners (where they survive), link targets, xattrs and bodies enter; times never do.
    """

    digest: str
    paths: tuple[tuple[str, str], ...]


def fetch_remote(
    op: CopyOp, *, fetch: Callable[..., Any], scratch: Path, warn: Callable[[str], None] = lambda _: None
) -> Remote:
    """Download the op's URLs and clone its git repositories into ``scratch``; ``{}`` if it has none.

    Raises:
        CopyError: a download or clone failed, or ``--checksum`` does not match.
    """
    raise NotImplementedError


def copy_inputs(
    op: CopyOp, trees: Mapping[Input, Tree], remote: Remote = {}, *, stats: StatCache | None = None
) -> CopyInputs:
    """Digest what ``op`` would copy: only what survives ignore rules, excludes and wildcards.

    Raises:
        CopyError: a literal source is missing.
    """
    raise NotImplementedError


def destination_facts(op: CopyOp, dest: View) -> tuple[tuple[str, str], ...]:
    """What ``copy_items`` would take from the layers below, as (what, value): resolved destination, the attributes of
    the directories that lead to it, the ids of names in ``--chown``.

    With ``--link`` this goes into the cache key in place of the parent step: the layer depends on nothing else of it.
    """
    raise NotImplementedError


def copy_items(
    op: CopyOp,
    trees: Mapping[Input, Tree],
    remote: Remote,
    dest: View,
    *,
    now: int,
    warn: Callable[[str], None] = lambda _: None,
) -> Iterator[Item]:
    """The layer of ``op`` on top of ``dest``, parents before children, sorted.

    ``now`` (seconds) is the mtime of directories that the copy itself creates. ``warn`` gets one line for a wildcard
    that matches nothing.

    Raises:
        CopyError: a missing source, a type conflict, an unknown name in ``--chown``, a bad ``--chmod``.
        HostileInputError: an archive that breaks the limits.
    """
    raise NotImplementedError
