"""Where a command's images come from: the registries, and ``docker-image://`` and ``oci-layout://`` contexts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layersmith.errors import UsageError

if TYPE_CHECKING:
    from argparse import Namespace
    from contextlib import ExitStack

    from layersmith.bases import Pull
    from layersmith.cli.unpacking import Unpacking
    from layersmith.image import Image
    from layersmith.oci.descriptor import Descriptor
    from layersmith.oci.platform import Platform
    from layersmith.progress import Progress
    from layersmith.store import Store
    from layersmith.transport.fetch import Fetched


def puller(
    args: Namespace,
    store: Store,
    progress: Progress,
    *,
    lazy: bool = False,
    unpacking: Unpacking | None = None,
) -> Pull:
    """Fetches images by name, but for their layers if ``lazy``; HTTP is loaded with the first one.

    ``unpacking`` says what is done with each layer as soon as it is there.
    """

    def pull(name: str, platform: Platform) -> Descriptor:
        from layersmith.bases import remember
        from layersmith.cli.registries import open_registry

        on_layer = None if lazy or unpacking is None else unpacking(store, name)
        with open_registry(args, progress) as registry:
            reference = registry.config.reference(name)
            top = registry.fetch_manifest(store, reference)
            exact = reference.with_digest(top.digest)
            descriptor = registry.pull(store, exact, platform=platform, lazy=lazy, on_layer=on_layer)
        if reference.tag is not None and reference.digest is None:
            remember(store, reference.with_tag(reference.tag).familiar(), top, descriptor)
        return descriptor

    return pull


def promising_puller(args: Namespace, store: Store, progress: Progress, lifetime: ExitStack) -> Pull:
    """As `puller`, but layers are only promised: fetched one by one, until ``lifetime`` ends, when somebody opens them.

    An image gets its name in the store only if by then all of it has come.
    """

    def pull(name: str, platform: Platform) -> Descriptor:
        from layersmith.cli.registries import open_registry
        from layersmith.image import read_manifest

        registry = lifetime.enter_context(open_registry(args, progress))
        reference = registry.config.reference(name)
        descriptor = registry.pull(store, reference, platform=platform, lazy=True)
        digests = [layer.digest for layer in read_manifest(store, descriptor).layers]
        store.blobs.elsewhere.promise(digests, lambda blob: registry.fetch_blob(store, reference, blob))

        def name_if_whole() -> None:
            if reference.tag is not None and all(store.blobs.has(digest) for digest in digests):
                store.refs.set(reference.with_tag(reference.tag).familiar(), descriptor)

        lifetime.callback(name_if_whole)
        return descriptor

    return pull


def fetch(url: str, directory: Path, **options: Any) -> Fetched | None:
    """`transport.fetch.fetch`, loaded with the first URL."""
    from layersmith.transport import fetch as transport

    return transport.fetch(url, directory, **options)


def named_image(
    store: Store, value: str, pull: Pull, pulled: Store | None = None
) -> Callable[[Platform], Image]:
    """The image that ``--build-context NAME=value`` names, read when it is asked for; ``pulled`` as in `StoreBases`."""
    from layersmith.bases import StoreBases
    from layersmith.image import Image

    scheme, _, rest = value.partition("://")
    if scheme == "docker-image":
        return lambda platform: StoreBases(store, pull, {}, pulled=pulled).image(rest, platform)
    if scheme == "oci-layout":

        def load(platform: Platform) -> Image:
            from layersmith.transport import load as load_image

            path, _, name = rest.partition(":")
            into = pulled or store
            (loaded, *_) = load_image(into, Path(path), only=name or None, register=False)
            return Image.read(into, loaded.descriptor, platform)

        return load
    raise UsageError(
        f"--build-context {value!r}: unknown scheme",
        hint="give a directory, docker-image://NAME, oci-layout://DIR, or the URL of a git repository or an archive",
    )
