"""Base images whose layers are unpacked while others still arrive. In: a Buildfile's text. Out: which, and how.

Layers are unpacked lazily, when a step mounts them; but what a RUN will mount for sure need not wait until all is here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from layersmith.errors import NotFoundError, SandboxError

if TYPE_CHECKING:
    from layersmith.linux.userns import Isolation
    from layersmith.oci.descriptor import Layer
    from layersmith.progress import Progress
    from layersmith.solve import Isolate
    from layersmith.store import Store

OnLayer = Callable[["Layer", tuple["Layer", ...]], None]
Unpacking = Callable[["Store", str], OnLayer | None]
"""What to do with each layer of an image, by its name, once it is in the store; None: nothing."""

_FROM = re.compile(rb"FROM\s+(?:--\S+\s+)*(\S+)(?:\s+AS\s+(\S+))?", re.IGNORECASE)
_RUN = re.compile(rb"(?:ONBUILD\s+)?RUN\s", re.IGNORECASE)


def into(isolation: Isolation, progress: Progress | None = None) -> Unpacking:
    """Unpacks every image, for overlays of this ``isolation``; ``progress`` hears of it."""

    def unpacking(store: Store, name: str) -> OnLayer:
        from layersmith.layer.unpack import unpack

        def arrived(layer: Layer, below: tuple[Layer, ...]) -> None:
            # A layer that means something else on other layers needs those: who mounts it will have them.
            with suppress(NotFoundError):
                unpack(
                    store,
                    layer,
                    below,
                    xattr_namespace=isolation.xattr_namespace,
                    ignore_chown_errors=isolation.single_id,
                    images=isolation.mounts_images,
                    progress=progress,
                )

        return arrived

    return unpacking


def for_build(text: bytes, isolate: Isolate, progress: Progress | None = None) -> Unpacking:
    """Unpacks the images that commands run on. ``isolate`` is called for the first of them, before there are threads."""
    images = run_on(text)

    def unpacking(store: Store, name: str) -> OnLayer | None:
        if not any(image == name.encode() or b"$" in image for image in images):
            return None
        try:
            isolation, _ = isolate()
        except SandboxError:
            return None  # the step that can't run without says so better
        return None if isolation.single_id else into(isolation, progress)(store, name)

    return unpacking


def run_on(text: bytes) -> frozenset[bytes]:
    """The images of FROM, as written, in whose stages (or in those that build on them) there is a RUN.

    A glance at the lines, for the language is not parsed yet: a wrong guess costs or saves time, nothing else.
    """
    images: dict[bytes, bytes] = {}
    found = set()
    image = b""
    for line in text.splitlines():
        stage = _FROM.match(line.lstrip())
        if stage is not None:
            image = images.get(stage[1].lower(), stage[1])
            if stage[2]:
                images[stage[2].lower()] = image
        elif _RUN.match(line.lstrip()):
            found.add(image)
    return frozenset(found)
