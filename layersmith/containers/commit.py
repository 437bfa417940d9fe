"""A container to an image: its upper directory becomes a layer on its image. In: a `Container`. Out: a descriptor."""

from __future__ import annotations

import itertools
import shlex
import time
from collections.abc import Sequence

from layersmith.containers.changes import items
from layersmith.containers.container import Container
from layersmith.dataclass import dataclass, replace
from layersmith.image import Image
from layersmith.layer.compress import Compression
from layersmith.layer.pack import pack
from layersmith.oci.config import History, ImageConfig
from layersmith.oci.descriptor import Descriptor
from layersmith.store import Store


@dataclass(frozen=True, slots=True)
class CommitOptions:
    """``changes``: instructions for the config. ``epoch``: SOURCE_DATE_EPOCH in seconds, the time of the image and the
    upper limit of its files' mtimes."""

    author: str = ""
    message: str = ""
    changes: Sequence[str] = ()
    epoch: int | None = None
    compression: Compression = Compression()


DEFAULT_OPTIONS = CommitOptions()


def commit(
    store: Store,
    container: Container,
    options: CommitOptions = DEFAULT_OPTIONS,
    *,
    xattr_namespace: str = "trusted",
) -> Descriptor:
    """The image of ``container`` as it is now; it has no name yet. Its command, variables, user and working directory
    are the image's defaults, as with docker commit.

    Raises StepError: its files can't be a layer, or change meanwhile; UsageError: ``options.changes`` are wrong.
    """
    image = Image.read(store, container.config.manifest)
    config = _configured(image.config, container, options)
    found = items(store, container, image.layers, xattr_namespace=xattr_namespace)
    layer = None
    first = next(found, None)
    if first is not None:
        packed = pack(
            store, itertools.chain([first], found), compression=options.compression, epoch=options.epoch
        )
        layer = packed.layer
    moment = time.time() if options.epoch is None else options.epoch
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
    history = History(created, shlex.join(container.config.process.args), options.author, options.message)
    appended = image.append(layer, history)
    # What `append` leaves out says how the parent image was made.
    config = replace(config, created=created, extra=appended.config.extra)
    return appended.configured(config).write(store)


def _configured(before: ImageConfig, container: Container, options: CommitOptions) -> ImageConfig:
    made = container.config
    config = replace(
        before,
        author=options.author or before.author,
        env=tuple(f"{name}={value}" for name, value in made.process.env),
        entrypoint=made.entrypoint or None,
        cmd=made.cmd or None,
        user=made.process.user,
        working_dir=made.process.cwd if made.process.cwd != "/" else before.working_dir,
        labels=made.labels,
    )
    if not options.changes:
        return config
    from layersmith.transport.changes import apply_changes

    return apply_changes(config, options.changes)
