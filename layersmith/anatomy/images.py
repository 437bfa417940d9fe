"""The images of a store, one by one. In: a store. Out: `ImageSummary` values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import MappingProxyType

from layersmith.dataclass import dataclass
from layersmith.errors import LayersmithError, NotFoundError, UsageError
from layersmith.image import Image, choose
from layersmith.oci import mediatype
from layersmith.oci.config import ImageConfig
from layersmith.oci.descriptor import Descriptor
from layersmith.oci.manifest import Index, Manifest, parse_manifest
from layersmith.oci.platform import Platform, native
from layersmith.oci.reference import parse_reference
from layersmith.store import Store
from layersmith.store.graph import closure


@dataclass(frozen=True, slots=True)
class ImageSummary:
    """An image under one of its names.

    ``name`` has the tag, and is ``""`` for an image without a name. ``config`` is that of this machine's platform, or
    else of the first there is; None for what is no image, or damaged: then ``problem`` says why. ``size`` counts every
    blob once, as stored; ``platforms`` are those whose image is in the store.
    """

    name: str
    descriptor: Descriptor
    size: int = 0
    config: ImageConfig | None = None
    platforms: tuple[Platform, ...] = ()
    problem: str = ""

    @property
    def repository(self) -> str:
        """The name without the tag."""
        return self.name.rpartition(":")[0]

    @property
    def tag(self) -> str:
        return self.name.rpartition(":")[2]


def images(store: Store) -> Iterator[ImageSummary]:
    """All images by name, those without one last. One that is damaged comes with its problem; none is raised."""
    seen: dict[str, ImageSummary] = {}
    for name, descriptor in sorted(store.refs.list(), key=lambda pair: not pair[0]):
        if descriptor.digest not in seen:
            seen[descriptor.digest] = _summary(store, descriptor)
        known = seen[descriptor.digest]
        yield ImageSummary(name, descriptor, known.size, known.config, known.platforms, known.problem)


def _summary(store: Store, descriptor: Descriptor) -> ImageSummary:
    try:
        parts = list(closure(store.blobs, descriptor))
        configs = [
            ImageConfig.from_json(store.blobs.read(part))
            for part in parts
            if mediatype.is_config(part.media_type)
        ]
    except LayersmithError as error:
        return ImageSummary("", descriptor, problem=error.message)
    here = native()
    configs.sort(key=lambda config: config.platform != here)
    if not configs:
        return ImageSummary("", descriptor, sum(part.size for part in parts), problem="not a container image")
    return ImageSummary(
        "",
        descriptor,
        sum(part.size for part in parts),
        configs[0],
        tuple(config.platform for config in configs if config.platform.os != "unknown"),
    )


def find(store: Store, name: str, platform: Platform | None = None) -> tuple[Descriptor, Image]:
    """The manifest's descriptor and the image that a person calls ``name``: a name, or (the beginning of) a digest.

    Of an index: the image for ``platform``, by default this machine's, or else the only one that is in the store.

    Raises:
        NotFoundError: there is none, or none for the platform.
        DigestMismatchError, TransportError: it is damaged, or no container image.
    """
    descriptor = manifest_of(store, store.refs.resolve(name), platform)
    return descriptor, Image.read(store, descriptor)


def manifest_of(store: Store, descriptor: Descriptor, platform: Platform | None = None) -> Descriptor:
    """The descriptor of the manifest that `find` takes at ``descriptor``."""
    for _ in range(4):
        document = parse_manifest(store.blobs.read(descriptor), descriptor.media_type)
        if isinstance(document, Manifest):
            return descriptor
        descriptor = _chosen(store, document, platform)
    raise NotFoundError(f"no image within four indexes of {descriptor.digest}")


def _chosen(store: Store, index: Index, platform: Platform | None) -> Descriptor:
    try:
        return choose(index, platform or native())
    except NotFoundError:
        there = [entry for entry in index.manifests if store.blobs.has(entry.digest)]
        if platform is not None or len(there) != 1:
            raise
        return there[0]


def names_of(store: Store, descriptor: Descriptor) -> tuple[str, ...]:
    """The names that an image has."""
    return tuple(name for name, entry in store.refs.list() if name and entry.digest == descriptor.digest)


@dataclass(frozen=True, slots=True)
class Removal:
    """What `remove` did: names taken away, and the digest if the image is no longer listed (``""`` if it is)."""

    untagged: tuple[str, ...]
    deleted: str


def remove(
    store: Store, name: str, *, force: bool = False, used: Mapping[str, str] = MappingProxyType({})
) -> Removal:
    """Take a name from an image, or an image given by its digest off the list. Blobs stay until a prune.

    ``used``: digests of manifests that containers are made of, each with a container's name.

    Raises:
        NotFoundError: there is no such image.
        UsageError: ``force`` is off, and it is given by its digest and has several names, or has no other name and
            is in use.
    """
    descriptor = store.refs.resolve(name)
    names = names_of(store, descriptor)
    called = _called(name, names)
    if called is not None and len(names) > 1:
        store.refs.delete(called)
        return Removal((called,), "")
    user = _user(store, descriptor, used)
    if user and not force:
        raise UsageError(
            f"image {name} is what container {user} is made of",
            hint=f"`layersmith rm {user}` first, or take the name away with --force",
        )
    if called is not None:
        store.refs.delete(called)
        return Removal((called,), descriptor.digest)
    if len(names) > 1 and not force:
        raise UsageError(
            f"image {name} has {len(names)} names: {', '.join(names)}",
            hint="remove it by name, or all of them at once with --force",
        )
    store.refs.forget([descriptor.digest])
    return Removal(names, descriptor.digest)


def _user(store: Store, descriptor: Descriptor, used: Mapping[str, str]) -> str | None:
    digests = [descriptor.digest]
    if used:
        with suppress(LayersmithError):  # a damaged image can be removed as well
            digests += [part.digest for part in closure(store.blobs, descriptor)]
    return next((used[digest] for digest in digests if digest in used), None)


def _called(text: str, names: tuple[str, ...]) -> str | None:
    """Which of ``names`` is meant by ``text``, if it is a name and not a digest."""
    try:
        reference = parse_reference(text)
    except UsageError:
        return None
    familiar = reference.with_tag(reference.tag).familiar() if reference.tag else None
    return familiar if familiar in names else None
