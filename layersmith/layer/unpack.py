"""Layers to directories that overlayfs takes as lowerdirs. In: a `Layer`, its blob. Out: a snapshot's path."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from layersmith.errors import HostileInputError
from layersmith.layer.blob import Limits, layer_index, open_plain, open_tar, placed
from layersmith.layer.entry import LNK, ROOT, Entry
from layersmith.layer.erofs import UnfitError
from layersmith.layer.files import Files
from layersmith.layer.image import ImageWriter, mountable, mounted, worthwhile
from layersmith.layer.index import index_path, open_index
from layersmith.layer.index_writer import IndexWriter, index_writer, linked_below
from layersmith.layer.place import ExternalPath, Placement, shown
from layersmith.layer.verify import snapshot_problem
from layersmith.layer.view import View
from layersmith.layer.write import SnapshotWriter
from layersmith.progress import LayerUnpacked
from layersmith.store.files import storing

if TYPE_CHECKING:
    from layersmith.layer.tar.reader import TarReader
    from layersmith.oci.descriptor import Layer
    from layersmith.progress import Progress
    from layersmith.store import Pending, Store

__all__ = ["Limits", "lowerdirs", "merged_root", "prepare_upper", "unpack"]


def lowerdirs(
    store: Store,
    layers: Sequence[Layer],
    *,
    limits: Limits | None = None,
    xattr_namespace: str = "trusted",
    ignore_chown_errors: bool = False,
    images: bool = False,
) -> tuple[Path, ...]:
    """The snapshots of an image's ``layers`` (lowest first), as overlay wants them: topmost first.

    Unpacks what the store has not unpacked yet. Where a layer hides all of the root directory of those below, they
    are left out: overlayfs merges roots whatever their attributes say. Nor does it take the root's own owner and
    mode from any but the topmost directory, for which there is `prepare_upper`.

    Raises:
        HostileInputError: a layer leaves its root or its limits.
        DigestMismatchError, NotFoundError: a blob is damaged or missing.
        StoreError: a file can't be written (rootless with a single id: an owner can't be set, unless
            ``ignore_chown_errors``).
    """
    found: list[Path] = []
    for number, layer in enumerate(layers):
        path = unpack(
            store,
            layer,
            layers[:number],
            limits=limits,
            xattr_namespace=xattr_namespace,
            ignore_chown_errors=ignore_chown_errors,
            images=images,
        )
        if hides_all_below(store, layer):
            found.clear()
        found.append(path)
    return each_once(found)


def each_once(paths: Sequence[Path]) -> tuple[Path, ...]:
    """``paths``, lowest first, as overlay wants them: topmost first, and no directory twice (ELOOP).

    Of a layer that is there twice the lower one makes no difference: all that it adds and hides, the upper one does.
    """
    return tuple(dict.fromkeys(reversed(paths)))


def hides_all_below(store: Store, layer: Layer) -> bool:
    """Whether the unpacked ``layer`` has an opaque mark at its root, which overlayfs would not heed there."""
    index = open_index(store, layer.diff_id)
    return index is not None and index.opaque(b"")


def unpack(
    store: Store,
    layer: Layer,
    below: Sequence[Layer] = (),
    *,
    limits: Limits | None = None,
    xattr_namespace: str = "trusted",
    ignore_chown_errors: bool = False,
    images: bool = False,
    progress: Progress | None = None,
) -> Path:
    """The snapshot of one ``layer`` that lies on ``below`` (lowest first); see `lowerdirs`.

    With ``images`` it may be where an image is mounted: only for root, after `userns.enter`, and until the store is
    closed. ``progress`` hears of it if there was work to do.
    """
    key, placement = str(layer.diff_id), Placement(alone=not below)
    index = open_index(store, key)
    if index is not None:
        key, index = layer_index(store, layer, below)
    for _ in range(4):
        images = images and mountable()
        found = _present(store, key, images=images)
        if found is not None:
            return found
        if index is not None:
            placement = Placement(View(store, below) if key != layer.diff_id else None)
        try:
            with store.lock(f"snapshot-{key}"):
                found = _present(store, key, images=images)
                if found is None:
                    started = time.monotonic()
                    job = _Job(store, layer, key, placement, limits)
                    if images and worthwhile(layer, index):
                        made = job.make_image()
                    else:
                        opaque = xattr_namespace + ".overlay.opaque"
                        made = job.make_directory(opaque, ignore_chown_errors=ignore_chown_errors)
                    if progress is not None:
                        blob = layer.descriptor
                        progress.emit(LayerUnpacked(blob.digest, blob.size, time.monotonic() - started))
                    found = mounted(store, made)
            if found is not None:
                return found
        except ExternalPath:
            # Only known once it was read: what this layer is depends on those below.
            key, index = layer_index(store, layer, below)
        except UnfitError:
            images = False
    raise AssertionError("a placement on known layers asks for none, and a directory needs no mount")


def _present(store: Store, key: str, *, images: bool) -> Path | None:
    """The directory of a snapshot that is there already."""
    found = store.snapshots.find(key, whole=partial(_is_whole, store, key), images=images)
    return None if found is None else mounted(store, found)


def _is_whole(store: Store, key: str, path: Path) -> bool:
    """Whether a snapshot of before a reboot may be used: cheaper to find out than to unpack it again."""
    return not snapshot_problem(store, key, path)


class _Job:
    """Unpacks one layer, and writes its index if that is missing."""

    def __init__(
        self, store: Store, layer: Layer, key: str, placement: Placement, limits: Limits | None
    ) -> None:
        self._store = store
        self._layer = layer
        self._key = key
        self._placement = placement
        self._limits = limits or Limits(store.max_layer_size)

    def make_directory(self, opaque: str, *, ignore_chown_errors: bool) -> Path:
        """Unpack into a directory. ``opaque`` is overlayfs's name for that attribute."""
        with self._pending() as pending, self._missing_index() as index:
            writer = SnapshotWriter(pending.path, opaque=opaque, ignore_chown_errors=ignore_chown_errors)
            try:
                with open_tar(self._store, self._layer, self._limits) as tar:
                    self._write(tar, writer, index)
                writer.finish()
            finally:
                writer.close()
            if index is not None:
                index.finish(index_path(self._store, self._key), self._placement)
            return self._store.snapshots.commit(pending, self._key)

    def make_image(self) -> Path:
        """Unpack into an image. Raises UnfitError for a layer that only a directory can hold."""
        with self._pending(image=True) as pending, closing(ImageWriter(pending.path)) as writer:
            with self._missing_index() as index:
                if index is None:
                    with open_plain(self._store, self._layer, max_size=self._limits.max_size) as pieces:
                        for piece in pieces:
                            writer.write(piece)
                else:
                    with open_tar(self._store, self._layer, self._limits, also=writer.write) as tar:
                        for _ in placed(tar, self._placement, index):
                            pass
                    index.finish(index_path(self._store, self._key), self._placement)
            known = open_index(self._store, self._key)
            assert known is not None
            writer.finish(known)
            return self._store.snapshots.commit(pending, self._key)

    @contextmanager
    def _pending(self, *, image: bool = False) -> Iterator[Pending]:
        pending = self._store.snapshots.create(image=image)
        try:
            with storing(pending.path):
                yield pending
        except BaseException:
            self._store.snapshots.discard(pending)
            raise

    @contextmanager
    def _missing_index(self) -> Iterator[IndexWriter | None]:
        """A writer for the layer's index, None if there is one."""
        index = None if open_index(self._store, self._key) else index_writer(self._store)
        try:
            yield index
        finally:
            if index is not None:
                index.abort()

    def _write(self, tar: TarReader, writer: SnapshotWriter, index: IndexWriter | None) -> None:
        for entry in placed(tar, self._placement, index):
            try:
                writer.put(entry, tar)
            except FileNotFoundError:
                if entry.kind != LNK:
                    raise
                self._link_from_below(entry, writer, tar)

    def _link_from_below(self, entry: Entry, writer: SnapshotWriter, tar: TarReader) -> None:
        """A hard link to a file of a lower layer: copy that up, as an overlay does, and link to the copy."""
        below = self._placement.needs_below()
        if below is None:
            raise HostileInputError(
                f"{shown(entry.path)}: a hard link to {shown(entry.link)}, which is missing"
            )
        writer.put_bytes(linked_below(below, entry.link), below.content(entry.link))
        writer.put(entry, tar)


def merged_root(store: Store, stack: Sequence[Layer | Path]) -> Entry:
    """The root directory's attributes in a ``stack`` of layers, lowest first.

    A Path is the upper directory of a step whose layer is still being packed: `prepare_upper` gave it the right ones.
    """
    for layer in reversed(stack):
        if isinstance(layer, Path):
            files = Files()
            fd = files.open_directory(layer)
            try:
                return files.directory(fd, b"")[0]
            finally:
                os.close(fd)
        index = open_index(store, layer.diff_id) or layer_index(store, layer, ())[1]
        root = index.get(b"")
        if root is not None:
            return root
    return ROOT


def prepare_upper(upper: Path, root: Entry) -> None:
    """Give an overlay's empty upper directory the attributes of the root below (see `merged_root`).

    A merged root shows its topmost directory's attributes, and `changes` tells from them whether a step changed it.
    """
    with storing(upper):
        os.chown(upper, root.uid, root.gid)
        upper.chmod(root.mode)
        for key, value in root.xattrs:
            os.setxattr(upper, key, value)
        os.utime(upper, (root.mtime, root.mtime))
