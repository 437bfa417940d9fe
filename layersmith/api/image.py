"""An image in a store, as a value. In: its digest and where its store is. Out: what it is; and what can be done with it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layersmith.api.worker import output_of
from layersmith.dataclass import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from layersmith.image import Image as StoredImage
    from layersmith.oci.config import ImageConfig
    from layersmith.oci.descriptor import Layer
    from layersmith.store import Store as OpenStore


@dataclass(frozen=True, slots=True)
class Image:
    """An image (or an index of images for several platforms) that a store holds.

    A value, cheap to make and to compare: two are equal if they are the same image in the same store. It says what was
    true when it was made; an image that is removed later makes its methods raise NotFoundError.
    """

    digest: str
    """``sha256:…`` of its manifest, or of the index."""
    root: Path
    """Its store."""
    names: tuple[str, ...] = field(default=(), compare=False)
    """What it is called in the store, each with a tag."""

    @property
    def config(self) -> ImageConfig:
        """Its config: ``env``, ``cmd``, ``entrypoint``, ``working_dir``, ``user``, ``labels``, ``platform``, ``history`` …

        Of an index, that of this machine's platform.
        """
        with self._stored() as (_, image):
            return image.config

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Its layers, the lowest first: ``descriptor`` (media type, digest, size in bytes) and ``diff_id``."""
        with self._stored() as (_, image):
            return image.layers

    @property
    def size(self) -> int:
        """Bytes of its layers as stored, compressed."""
        return sum(layer.descriptor.size for layer in self.layers)

    def read(self, path: str | os.PathLike[str], *, limit: int = 1 << 20) -> bytes:
        """The content of a file of the image; symbolic links are followed, within the image.

        Raises NotFoundError: there is no such file. StoreError: it has more than ``limit`` bytes.
        """
        from layersmith.layer.view import View

        with self._stored() as (store, image), View(store, image.layers) as view:
            return view.read(os.fsencode(path), limit=limit)

    def tag(self, *names: str) -> Image:
        """Give it further names. Returns it with all that it has."""
        from layersmith.api.store import Store

        for name in names:
            output_of("tag", [self.digest, name], root=self.root)
        return Store(self.root).image(self.digest)

    def run(self, command: Sequence[str] = (), **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command in a new container of it; see `layersmith.run`."""
        from layersmith.api.store import run

        return run(self, command, **options)

    def export(self, dest: str | os.PathLike[str], type: str = "oci", **attributes: str) -> None:
        """Write it to a file or directory: ``type`` and ``attributes`` as of ``layersmith export -o``.

        ``image.export("web.tar")``, ``image.export("rootfs", "local")``, ``image.export("web", tar="false")``.

        Raises TransportError: it can't be written. UsageError: there is no such type or attribute.
        """
        output_of("export", [self.digest, "-o", _attributes(type, dest, attributes)], root=self.root)

    def push(self, name: str, *, options: Sequence[str] = ()) -> str:
        """Upload it to a registry as ``name``; the digest that it has there.

        ``options`` are words of ``layersmith push``, such as ``--creds``. Raises TransportError.
        """
        return output_of("push", ["-q", *options, self.digest, name], root=self.root).strip()

    def remove(self) -> None:
        """Take it and all its names out of the store. What its layers take up goes with the next ``layersmith prune``."""
        output_of("rmi", ["-f", self.digest], root=self.root)

    def _stored(self) -> AbstractContextManager[tuple[OpenStore, StoredImage]]:
        return _stored(self)


def _attributes(type: str, dest: str | os.PathLike[str], attributes: Mapping[str, str]) -> str:
    """The words of ``-o``: a line of CSV, in which any field may be quoted."""
    words = [f"type={type}", f"dest={os.fspath(dest)}"]
    words += [f"{name.replace('_', '-')}={value}" for name, value in attributes.items()]
    return ",".join(
        f'"{word.replace(chr(34), chr(34) * 2)}"' if set(word) & set(',"') else word for word in words
    )


def _stored(image: Image) -> AbstractContextManager[tuple[OpenStore, StoredImage]]:
    from contextlib import contextmanager

    @contextmanager
    def opened() -> Iterator[tuple[OpenStore, StoredImage]]:
        from layersmith.image import Image as StoredImage
        from layersmith.store import Store as OpenStore

        with OpenStore.open(image.root, create=False) as store:
            yield store, StoredImage.read(store, store.refs.resolve(image.digest))

    return opened()
