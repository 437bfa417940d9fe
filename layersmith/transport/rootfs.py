"""Root file systems to images. In: a tar (plain or compressed), a directory, or items. Out: an image of one layer."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from layersmith.dataclass import dataclass, replace
from layersmith.errors import TransportError
from layersmith.image import SCRATCH
from layersmith.layer.compress import Compression, decompress
from layersmith.layer.entry import WHITEOUT_PREFIX, Item
from layersmith.layer.pack import ZSTD, pack
from layersmith.layer.scan import scan
from layersmith.layer.tar import read_tar
from layersmith.oci.config import History, ImageConfig
from layersmith.oci.descriptor import Descriptor
from layersmith.oci.platform import Platform, native
from layersmith.oci.timestamp import rfc3339
from layersmith.store import Store


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How to make an image of files.

    ``changes``: instructions for its config. ``epoch``: SOURCE_DATE_EPOCH in seconds, the time of the image and the
    upper limit of its files' mtimes. ``message``: the comment in its history.
    """

    changes: Sequence[str] = ()
    message: str = ""
    platform: Platform | None = None
    epoch: int | None = None
    compression: Compression = ZSTD


DEFAULTS = ImportOptions()


def import_rootfs(store: Store, source: Path | BinaryIO, options: ImportOptions = DEFAULTS) -> Descriptor:
    """An image of the files in ``source``: a directory, a tar, or a stream of one; gz, xz, bz2 and zst are seen through.

    Raises:
        TransportError: it is no tar, damaged, or has names that mean something else in a layer (``.wh.``).
        UsageError: ``options.changes`` are wrong.
    """
    _changed(SCRATCH().config, options)  # whether it can be, before the work and not after
    if isinstance(source, Path) and source.is_dir():
        return import_items(store, scan(source, with_root=True), str(source), options)
    if not isinstance(source, Path):
        return import_items(store, _tar_items(source, "<stdin>"), "-", options)
    try:
        with source.open("rb", buffering=0) as file:
            return import_items(store, _tar_items(file, str(source)), source.name, options)
    except OSError as error:
        raise TransportError(f"can't read {source}: {error.strerror}") from error


def import_items(
    store: Store,
    items: Iterable[Item],
    origin: str,
    options: ImportOptions = DEFAULTS,
    *,
    env: tuple[str, ...] = (),
    cmd: tuple[str, ...] | None = None,
) -> Descriptor:
    """An image of one layer with ``items``; ``origin`` says in its history where they are from.

    ``env`` and ``cmd`` are what its config has before ``options.changes``.
    """
    packed = pack(store, _checked(items), compression=options.compression, epoch=options.epoch)
    created = rfc3339(time.time() if options.epoch is None else options.epoch)
    image = SCRATCH(options.platform or native())
    config = _changed(replace(image.config, created=created, env=env, cmd=cmd), options)
    comment = options.message or f"Imported from {origin}"
    image = image.configured(config).append(packed.layer, History(created=created, comment=comment))
    return image.write(store)


def _changed(config: ImageConfig, options: ImportOptions) -> ImageConfig:
    if not options.changes:
        return config
    from layersmith.transport.changes import apply_changes  # the parser is slow to load, and rarely needed

    return apply_changes(config, options.changes)


def _tar_items(stream: BinaryIO, name: str) -> Iterator[Item]:
    entries = 0
    try:
        for entry, content in read_tar(decompress(stream)):
            entries += 1
            kept = tuple(pair for pair in entry.xattrs if keeps_xattr(pair[0]))
            yield (entry if kept == entry.xattrs else entry._replace(xattrs=kept)), content
    except TransportError as error:
        raise type(error)(f"{name}: {error.message}", hint=error.hint) from error
    if not entries:
        raise TransportError(f"{name} holds no files", hint="import takes the tar of a root file system")


def keeps_xattr(name: bytes) -> bool:
    """Whether an extended attribute belongs in a layer: others mean something only on the machine they are from."""
    if name.startswith(b"user."):
        return not name.startswith(b"user.overlay.")
    return name == b"security.capability" or name.startswith(b"system.posix_acl_")


def _checked(items: Iterable[Item]) -> Iterator[Item]:
    """``items``, none of which a layer would take for a whiteout."""
    for entry, content in items:
        if entry.name.startswith(WHITEOUT_PREFIX):
            raise TransportError(
                f"{os.fsdecode(entry.path)!r} can't be in an image: in a layer, .wh. marks a removed file",
                hint="if this is the tar of a layer, `layersmith load` takes whole images",
            )
        yield entry, content
