"""FROM and ``--from``: where an image comes from that is not a stage. In: a name. Out: an `Image` in the store.

A ``--build-context`` first, then the store, then a registry; ``--pull`` asks the registry first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from layersmith.dataclass import dataclass
from layersmith.errors import NotFoundError, UsageError
from layersmith.image import Image
from layersmith.oci import mediatype
from layersmith.oci.descriptor import Descriptor
from layersmith.oci.document import parse_object
from layersmith.oci.manifest import Index
from layersmith.oci.platform import Platform, matches
from layersmith.oci.reference import parse_reference
from layersmith.ops import ContextInput
from layersmith.store import Store

Pull = Callable[[str, Platform], Descriptor]
"""Fetches an image by name into the store. Raises NotFoundError, TransportError."""


@dataclass(frozen=True, slots=True)
class StoreBases:
    """`plan.Bases` on a store.

    ``contexts`` maps the name of each ``--build-context`` to a local directory's name, or to what gives its image.
    """

    store: Store
    pull: Pull
    contexts: Mapping[str, ContextInput | Callable[[Platform], Image]]
    always_pull: bool = False
    pulled: Store | None = None
    """The store that ``pull`` fetches into, if it is another one."""

    def image(self, name: str, platform: Platform) -> Image:
        """The image ``name`` for ``platform``, from the store or else pulled."""
        known = None if self.always_pull else self._stored(name, platform)
        return known or Image.read(self.pulled or self.store, self.pull(name, platform), platform)

    def _stored(self, name: str, platform: Platform) -> Image | None:
        descriptor = self.store.refs.get(name)
        named = descriptor is not None
        descriptor = descriptor or self._held(name)
        if descriptor is None:
            return None
        try:
            image = Image.read(self.store, descriptor, platform)
        except NotFoundError:
            return None
        if not named and not all(self.store.blobs.has(layer.descriptor.digest) for layer in image.layers):
            return None  # somebody has looked at it, and fetched no more than that
        return image if matches(platform, image.config.platform) else None

    def _held(self, name: str) -> Descriptor | None:
        """The image or index that ``name`` gives the digest of, if its blob is in the store without that name."""
        digest = parse_reference(name).digest
        if digest is None or not self.store.blobs.has(digest):
            return None
        size = self.store.blobs.size(digest)
        data = self.store.blobs.read(Descriptor("", digest, size))
        media_type = parse_object(data, f"manifest {digest}").text("mediaType", mediatype.OCI_MANIFEST)
        return Descriptor(media_type, digest, size)

    def context(self, name: str, platform: Platform) -> Image | ContextInput | None:
        """What ``--build-context`` gives for ``name``: written so, or naming the same image."""
        for known in (name, name.lower(), _familiar(name)):
            found = self.contexts.get(known)
            if found is not None:
                return found if isinstance(found, ContextInput) else found(platform)
        return None


class SteadyBases:
    """What a `StoreBases` finds, asked for once, for builds in several stores: all stand on the same images."""

    def __init__(self, source: StoreBases) -> None:
        self.source = source
        self._found: dict[tuple[str, Platform], Image] = {}

    def into(self, store: Store) -> CopiedBases:
        """`plan.Bases` for a build in ``store``."""
        return CopiedBases(self, store)

    def image(self, name: str, platform: Platform) -> Image:
        """As `StoreBases.image`, and the same whenever it is asked for."""
        if (name, platform) not in self._found:
            self._found[name, platform] = self.source.image(name, platform)
        return self._found[name, platform]


@dataclass(frozen=True, slots=True)
class CopiedBases:
    """`plan.Bases` whose images' layers are copied into ``store``, unless they are there."""

    steady: SteadyBases
    store: Store

    def image(self, name: str, platform: Platform) -> Image:
        """As `StoreBases.image`."""
        return self._copied(self.steady.image(name, platform))

    def context(self, name: str, platform: Platform) -> Image | ContextInput | None:
        """As `StoreBases.context`."""
        found = self.steady.source.context(name, platform)
        return self._copied(found) if isinstance(found, Image) else found

    def _copied(self, image: Image) -> Image:
        for layer in image.layers:
            if not self.store.blobs.has(layer.descriptor.digest):
                with self.steady.source.store.blobs.open(layer.descriptor) as reader:
                    self.store.blobs.ingest(layer.descriptor, iter(lambda: reader.read(1 << 20), b""))
        return image


def remember(store: Store, name: str, top: Descriptor, image: Descriptor) -> None:
    """Call what was pulled ``name``: ``image``, chosen from ``top``; or ``top`` itself, an index, if it has more of it.

    So images of several platforms that were pulled one by one have the name together, and a build for all of them
    finds all again without asking a registry.
    """
    known = store.refs.get(name)
    if known is not None and known.digest != image.digest and mediatype.is_index(top.media_type):
        listed = Index.from_json(store.blobs.read(top)).manifests
        if known.digest in {top.digest, *(entry.digest for entry in listed)}:
            image = top
    store.refs.set(name, image)


def _familiar(name: str) -> str:
    """``name`` as an image, without ``:latest``."""
    try:
        return parse_reference(name).familiar().removesuffix(":latest")
    except UsageError:
        return name
