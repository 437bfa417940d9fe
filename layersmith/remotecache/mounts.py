"""The content of cache mounts, to layers and back. In: cache mounts, or their layers. Out: the other.

What comes from elsewhere is data, and only that: no device, and nothing outside of its own directory. Whatever a cache
mount has already stays as it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from layersmith import ops
from layersmith.errors import LayersmithError
from layersmith.execute.cachemounts import origin
from layersmith.layer.blob import open_tar
from layersmith.layer.entry import DIR, LNK, REG, SYM, WHITEOUT_PREFIX, Item
from layersmith.layer.pack import pack
from layersmith.layer.place import Placement
from layersmith.layer.scan import scan
from layersmith.layer.write import SnapshotWriter
from layersmith.oci.descriptor import Layer
from layersmith.plan import Plan
from layersmith.progress import Notice, Progress
from layersmith.remotecache.document import SharedMount
from layersmith.store import Store
from layersmith.store.files import storing
from layersmith.store.mounts import KeptMount

_DATA = frozenset({DIR, LNK, REG, SYM})


def mounts_of(store: Store, plans: Iterable[Plan]) -> tuple[KeptMount, ...]:
    """The cache mounts that the steps of ``plans`` name and that have content."""
    wanted = {
        (mount.id, origin(mount)): None
        for plan in plans
        for step in plan.steps
        if isinstance(step.op, ops.ExecOp)
        for mount in step.op.mounts
        if isinstance(mount, ops.CacheMount)
    }
    found = (store.mounts.get(id, source) for id, source in wanted)
    return tuple(mount for mount in found if mount is not None)


def packed(store: Store, mounts: Iterable[KeptMount]) -> tuple[SharedMount, ...]:
    """``mounts`` as layers in ``store``, with owners, modes and links. Raises StepError where a file can't be read."""
    found = []
    for mount in mounts:
        with store.mounts.quiet(mount) as path:
            layer = pack(store, _items(path)).layer
        found.append(SharedMount(mount.id, mount.source, layer))
    return tuple(found)


def _items(path: Path) -> Iterator[Item]:
    """What is in a cache mount, but for names that a layer would take for whiteouts."""
    for entry, content in scan(path, with_root=True):
        if not any(part.startswith(WHITEOUT_PREFIX) for part in entry.path.split(b"/")):
            yield entry, content


def restore(
    store: Store, mounts: Iterable[SharedMount], progress: Progress, *, strict: bool = False
) -> tuple[SharedMount, ...]:
    """Give ``mounts`` their content where they have none yet; those that got it.

    One that can't be had is warned of, or with ``strict`` raises.
    """
    done = []
    for mount in mounts:
        try:
            with store.mounts.absent(mount.id, mount.source) as path:
                if path is None:
                    continue
                new = store.temporary("cache") / "new"
                with storing(new):
                    new.mkdir()
                    _extract(store, mount.layer, new)
                    new.rename(path)
        except LayersmithError as error:
            if strict:
                raise
            progress.emit(Notice("warning", f"the cache mount {mount.id} stays empty: {error.message}"))
        else:
            done.append(mount)
    return tuple(done)


def _extract(store: Store, layer: Layer, directory: Path) -> None:
    """Write the files of ``layer`` into the empty ``directory``. Raises as `layer.blob.open_tar`."""
    placement = Placement()
    writer = SnapshotWriter(directory, opaque="", ignore_chown_errors=os.geteuid() != 0)
    try:
        with open_tar(store, layer) as tar:
            for entry in tar:
                if entry.kind not in _DATA or entry.name.startswith(WHITEOUT_PREFIX):
                    continue
                placed = placement.place(entry)
                if placed is None:
                    continue
                for parent in placed[1]:
                    writer.put(parent, tar)
                with suppress(FileNotFoundError):  # a hard link to what was left out
                    writer.put(placed[0], tar)
        writer.finish()
    finally:
        writer.close()
