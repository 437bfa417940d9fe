"""What a container changed. In: its upper directory, its image's layers. Out: a layer's items, or `Change`s."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator, Sequence

from layersmith.anatomy.differences import ADDED, CHANGED, DELETED, Change
from layersmith.containers.container import Container
from layersmith.image import Image
from layersmith.layer.changes import changes
from layersmith.layer.entry import DIR, REG, WHITEOUT_PREFIX, Entry, Item
from layersmith.layer.view import View
from layersmith.oci.descriptor import Layer
from layersmith.store import Store

SYSTEM_TARGETS = ("/proc", "/dev", "/sys", "/etc/resolv.conf", "/etc/hosts", "/etc/hostname")


def container_diff(
    store: Store, container: Container, *, xattr_namespace: str = "trusted"
) -> tuple[Change, ...]:
    """What ``container`` added, changed and deleted, by path, as ``docker diff`` tells it; also while it runs.

    Of a deleted directory only itself is told. Raises as `items` does.
    """
    layers = Image.read(store, container.config.manifest).layers
    found = []
    with View(store, layers) as lower:
        for entry, _ in items(store, container, layers, xattr_namespace=xattr_namespace):
            name = entry.name
            if name.startswith(WHITEOUT_PREFIX):
                path = posixpath.join(entry.parent, name.removeprefix(WHITEOUT_PREFIX))
                found.append(Change(DELETED, path, lower.lookup(path), None))
            else:
                before = lower.lookup(entry.path)
                found.append(Change(ADDED if before is None else CHANGED, entry.path, before, entry))
    return tuple(sorted(found, key=lambda change: change.path.replace(b"/", b"\0")))


def items(
    store: Store, container: Container, layers: Sequence[Layer], *, xattr_namespace: str = "trusted"
) -> Iterator[Item]:
    """The layer that ``container`` would be on ``layers``.

    Mount points that were made for it, and are there as long as it runs, are no changes of its own. Raises StepError
    where its files can't be a layer, or change meanwhile.
    """
    targets = (*SYSTEM_TARGETS, *(mount.target for mount in container.config.mounts))
    points = {os.fsencode(target.strip("/")) for target in targets}
    for path in tuple(points):
        while path := path.rpartition(b"/")[0]:
            points.add(path)
    with View(store, layers) as lower:
        held: list[Item] = []
        for entry, content in changes(container.upper, lower=lower, xattr_namespace=xattr_namespace):
            held = [item for item in held if entry.path.startswith(item[0].path + b"/")]
            if entry.path in points and _is_stub(entry) and lower.lookup(entry.path) is None:
                # A directory may still turn out to hold something.
                if entry.kind == DIR:
                    held.append((entry, None))
                continue
            yield from held
            held = []
            yield entry, content


def _is_stub(entry: Entry) -> bool:
    return entry.kind == DIR or (entry.kind == REG and entry.size == 0)
