"""EXECUTE: COPY and ADD, written straight to a layer's items. In: a CopyOp, source trees, a View. Out: Items, a digest.

Nothing is mounted or unpacked for the destination: what must be known of it (is it a directory, a link, who owns it)
comes from the View of the layers below. Order of use::

    remote = fetch_remote(op, fetch=…, scratch=…)             # what URLs and git repositories are; {} for most ops
    inputs = copy_inputs(op, trees, remote, stats=…)          # what goes into the cache key
    layer = pack(store, copy_items(op, trees, remote, dest, now=…), …)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from layersmith.buildfile.chmod import parse_chmod
from layersmith.execute.archive import open_archive
from layersmith.execute.archive_source import ArchiveSource
from layersmith.execute.attributes import parse_owner
from layersmith.execute.destination import Below, Destination, locate
from layersmith.execute.digest import CopyInputs, digest_inputs
from layersmith.execute.merge import Merge
from layersmith.execute.remote import fetch_remote
from layersmith.execute.selection import Fetched, Inline, Remote, Selected, identify, select
from layersmith.execute.source import Contributor, FileSource, InlineFile, Looks
from layersmith.execute.tree import Tree
from layersmith.ops import CopyOp, Input

if TYPE_CHECKING:
    from layersmith.layer.entry import Item
    from layersmith.store.statcache import StatCache

__all__ = [
    "CopyInputs",
    "Fetched",
    "Remote",
    "copy_inputs",
    "copy_items",
    "destination_facts",
    "fetch_remote",
]


def copy_inputs(
    op: CopyOp,
    trees: Mapping[Input, Tree],
    remote: Remote | None = None,
    *,
    listed: bool = False,
    stats: StatCache | None = None,
) -> CopyInputs:
    """Digest what ``op`` would copy: only what survives ignore rules, excludes and wildcards.

    ``listed`` asks for the single paths too, for ``explain``. ``stats`` saves reading files that haven't changed.

    Raises:
        CopyError: a literal source is missing, or something can't be read.
    """
    own_mode = op.chmod is None or not op.chmod.isdigit()
    with identify(op, trees, remote or {}) as chosen:
        return digest_inputs(chosen, owner=op.chown is None, mode=own_mode, listed=listed, stats=stats)


def destination_facts(op: CopyOp, dest: Below) -> tuple[tuple[str, str], ...]:
    """What ``copy_items`` would take from the layers below, as (what, value): the resolved destination, the attributes
    of the directories that lead to it, the ids of names in ``--chown``.

    With ``--link`` this goes into the cache key in place of the parent step: the layer depends on nothing else of it.
    Times are left out, as everywhere in a key.

    Raises:
        CopyError: the destination can't be, or a name is unknown.
    """
    facts = locate(op.dest, dest).facts()
    if op.chown is not None:
        facts += (("owner", "{}:{}".format(*parse_owner(op.chown, dest.read))),)
    if op.parents or any(pattern.strip().startswith("!") for pattern in op.excludes):
        # then directories that exist below the destination keep their attributes too
        facts += locate(op.dest, dest).facts_below()
    return facts


def copy_items(
    op: CopyOp,
    trees: Mapping[Input, Tree],
    remote: Remote,
    dest: Below,
    *,
    now: int,
    warn: Callable[[str], None] = lambda _: None,
    scratch: Path | None = None,
) -> Iterator[Item]:
    """The layer of ``op`` on top of ``dest``, parents before children, sorted.

    ``now`` (seconds) is the mtime of directories that the copy itself creates. ``warn`` gets one line for a wildcard
    that matches nothing. ``scratch`` is where an archive's bodies may lie for the time being.

    Raises:
        CopyError: a missing source, a type conflict, an unknown name in ``--chown``, a bad ``--chmod``.
        HostileInputError: an archive that breaks the limits.
    """
    owner = parse_owner(op.chown, dest.read) if op.chown is not None else None
    looks = Looks(owner, parse_chmod(op.chmod) if op.chmod is not None else None, now)
    destination = locate(op.dest, dest)
    with ExitStack() as stack:
        chosen = stack.enter_context(select(op, trees, remote, warn=warn))
        contributors, as_directory = _arrange(chosen, destination, looks, scratch, stack)
        if not contributors:
            return
        where = destination if as_directory else destination.parent()
        pending, created = where.leading(looks)
        merge = Merge(dest, where.path, contributors, pending, now=now)
        yield from merge.items(exists=where.exists, created=created)


def _arrange(
    chosen: tuple[Selected | Inline, ...],
    destination: Destination,
    looks: Looks,
    scratch: Path | None,
    stack: ExitStack,
) -> tuple[list[Contributor], bool]:
    """Who writes what: contributors, and whether they write into the destination as a directory, or in its place.

    The sources follow one another: a directory makes the destination one, for the files that come after it too;
    without a directory a later file replaces an earlier one. ``stack`` closes what is opened here.
    """
    as_directory = destination.wants_directory
    is_file = destination.is_file
    contributors: list[Contributor] = []
    for one in chosen:
        archive = open_archive(one) if isinstance(one, Selected) and one.unpack else None
        if archive is not None or (isinstance(one, Selected) and one.found.is_dir):
            if is_file:
                raise destination.not_a_directory()
            as_directory = True
        if archive is not None:
            stack.callback(archive.close)
            last = contributors[-1] if contributors else None
            if not isinstance(last, ArchiveSource):
                last = ArchiveSource(destination, looks, scratch)
                stack.callback(last.close)
                contributors.append(last)
            last.extract(archive)
            continue
        if not as_directory:
            is_file = True
            contributors.clear()
        name = None if as_directory else destination.name
        contributors.append(
            InlineFile(one, looks, name=name)
            if isinstance(one, Inline)
            else FileSource(one, looks, name=name)
        )
    return contributors, as_directory
