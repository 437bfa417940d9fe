"""`load`: images from files into the store, whatever the format. In: a path or a stream. Out: what is now there."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from layersmith.errors import TransportError
from layersmith.store import Store
from layersmith.transport.archive import is_docker_archive, load_docker_archive
from layersmith.transport.files import open_files
from layersmith.transport.layout import Loaded, is_layout, load_layout


def load(
    store: Store,
    source: Path | BinaryIO,
    *,
    only: str | None = None,
    name: str | None = None,
    register: bool = True,
) -> tuple[Loaded, ...]:
    """Load an OCI layout (directory or tar) or a docker-archive, plain or compressed, and name its images.

    ``only``: of a layout, the image with this reference name or digest. ``name``: call the one image that there is so, rather
    than what its source calls it. An image without any name is found by its digest. Without ``register``
    no image is named or listed: they are in the store for this process only.

    Raises:
        TransportError: it is neither, damaged, or hostile; or has several images and ``name`` is given.
        NotFoundError: it has no image ``only``.
    """
    files = open_files(store, source)
    try:
        if is_layout(files):
            found = load_layout(store, files, only=only)
        elif is_docker_archive(files):
            found = load_docker_archive(store, files)
        else:
            raise TransportError(
                f"{files.name} is not an image",
                hint="load takes OCI layouts (directory or tar) and what docker save writes; "
                "for the tar of a root file system there is `layersmith import`",
            )
    finally:
        files.close()
    if name is not None:
        if len(found) > 1:
            raise TransportError(
                f"{files.name} has {len(found)} images, so they can't all be called {name!r}"
            )
        found = (Loaded(found[0].descriptor, (name,)),)
    for image in found if register else ():
        for each in image.names:
            store.refs.set(each, image.descriptor)
        if not image.names:
            store.refs.keep(image.descriptor)
    return found
