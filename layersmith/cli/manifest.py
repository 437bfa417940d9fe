"""Indexes of images by hand: ``manifest create``, ``add``, ``annotate``, ``inspect``, ``push``, ``remove``, ``rm``.

Words and options are those of podman and buildah, and docker's where those have none.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from layersmith.cli.stores import open_store
from layersmith.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from layersmith.oci.descriptor import Descriptor
    from layersmith.oci.document import Annotations
    from layersmith.oci.manifest import Index
    from layersmith.store import Store

LIST = "the index: a name, or the beginning of a digest"


def _list_argument(parser: ArgumentParser) -> None:
    parser.add_argument("list", metavar="LIST", help=LIST)


def _source_arguments(parser: ArgumentParser, *, nargs: str) -> None:
    parser.add_argument(
        "images",
        nargs=nargs,
        metavar="IMAGE",
        help="in the store, or else at a registry, from where it is pulled",
    )
    parser.add_argument(
        "--all", action="store_true", help="of an image that is itself an index, all, not only this machine's"
    )


def _description_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--os", metavar="OS", help="say that it is for this system")
    parser.add_argument("--arch", metavar="ARCH", help="say that it is for this architecture")
    parser.add_argument("--variant", metavar="VARIANT", help="of the architecture: v7")
    parser.add_argument("--os-version", metavar="VERSION", help="the system's version")
    parser.add_argument(
        "--os-features", action="append", default=[], metavar="FEATURE", help="what the system must have"
    )
    _annotation_argument(parser, "of the image's entry in the index")


def _annotation_argument(parser: ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--annotation", action="append", default=[], metavar="NAME=VALUE", help=f"an annotation {what}"
    )


# create

MANIFEST_CREATE_EXAMPLES = """\
examples:
  layersmith manifest create web:1.2 web:amd64 web:arm64
  layersmith manifest create --amend web:1.2 web:riscv64    with one more
  layersmith manifest create --all mirror/busybox docker.io/library/busybox

`layersmith build --platform linux/amd64,linux/arm64 -t web:1.2 .` makes an index at once.
"""


def manifest_create_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("list", metavar="LIST", help="the name of the new index")
    _source_arguments(parser, nargs="*")
    parser.add_argument("-a", "--amend", action="store_true", help="add to the index if there is one already")
    _annotation_argument(parser, "of the index itself")


def manifest_create(args: Namespace) -> int:
    """Make an index of images."""
    from layersmith.anatomy.indexes import annotated, as_index, with_entry
    from layersmith.oci.manifest import Index

    with open_store(args, create=True) as store:
        known = store.refs.get(args.list)
        if known is not None and not args.amend:
            raise UsageError(
                f"there is already an image {args.list}",
                hint=f"add to an index with --amend, or remove it with `layersmith manifest rm {args.list}`",
            )
        index = Index() if known is None else as_index(store, known, args.list)
        index = annotated(index, _annotations(args))
        for entry in _entries(args, store):
            index = with_entry(index, entry)
        _write(store, args.list, index)
    return 0


# add

MANIFEST_ADD_EXAMPLES = """\
examples:
  layersmith manifest add web:1.2 web:arm64
  layersmith manifest add --arch arm --variant v7 web:1.2 web:armhf    where its config does not say
"""


def manifest_add_arguments(parser: ArgumentParser) -> None:
    _list_argument(parser)
    _source_arguments(parser, nargs="+")
    _description_arguments(parser)


def manifest_add(args: Namespace) -> int:
    """Add images to an index; each takes the place of another one for its platform."""
    from layersmith.anatomy.indexes import read_index, with_entry

    with open_store(args) as store:
        index = read_index(store, args.list)
        for entry in _entries(args, store):
            index = with_entry(index, _described(args, entry))
        _write(store, args.list, index)
    return 0


# annotate

MANIFEST_ANNOTATE_EXAMPLES = """\
examples:
  layersmith manifest annotate --variant v7 web:1.2 web:armhf
  layersmith manifest annotate --annotation team=web web:1.2 sha256:3f1c…
  layersmith manifest annotate --index --annotation org.opencontainers.image.version=1.2 web:1.2
"""


def manifest_annotate_arguments(parser: ArgumentParser) -> None:
    _list_argument(parser)
    parser.add_argument(
        "image", nargs="?", metavar="IMAGE|DIGEST", help="the image of the index that is meant"
    )
    _description_arguments(parser)
    parser.add_argument("--index", action="store_true", help="annotate the index itself")


def manifest_annotate(args: Namespace) -> int:
    """Change what an index says of an image, or of itself."""
    from layersmith.anatomy.indexes import annotated, find_entry, read_index, with_changed_entry

    if args.index == (args.image is not None):
        raise UsageError("annotate takes an IMAGE of the index, or --index")
    with open_store(args) as store:
        index = read_index(store, args.list)
        if args.index:
            index = annotated(index, _annotations(args))
        else:
            entry = find_entry(index, _digest(store, index, args.image))
            index = with_changed_entry(index, _described(args, entry))
        _write(store, args.list, index)
    return 0


# inspect

MANIFEST_INSPECT_EXAMPLES = """\
examples:
  layersmith manifest inspect web:1.2
  layersmith manifest inspect docker.io/library/debian:bookworm    asked for at the registry; nothing is pulled
"""


def manifest_inspect_arguments(parser: ArgumentParser) -> None:
    from layersmith.cli.registries import registry_arguments

    parser.add_argument("list", metavar="LIST|IMAGE", help="in the store, or else at a registry")
    parser.add_argument("-v", "--verbose", action="store_true", help="(for docker's sake)")
    registry_arguments(parser)


def manifest_inspect(args: Namespace) -> int:
    """Print an index, or an image's manifest, as JSON."""
    name = args.list.removeprefix("docker://")
    with open_store(args, create=True) as store:
        try:
            if name != args.list:
                raise NotFoundError(name)
            descriptor = store.refs.resolve(name)
        except NotFoundError:
            from layersmith.cli.registries import open_registry

            with open_registry(args) as registry:
                descriptor = registry.fetch_manifest(store, registry.config.reference(name))
        document = json.loads(store.blobs.read(descriptor))
    print(json.dumps(document, indent=4))
    return 0


# push

MANIFEST_PUSH_EXAMPLES = """\
examples:
  layersmith manifest push web:1.2 registry.example.com/web:1.2
  layersmith manifest push --rm registry.example.com/web:1.2
"""


def manifest_push_arguments(parser: ArgumentParser) -> None:
    from layersmith.cli.registry import push_arguments

    push_arguments(parser)
    parser.add_argument(
        "--all", action="store_true", help="(for podman's sake: all images are always pushed)"
    )
    parser.add_argument(
        "-p", "--purge", "--rm", dest="purge", action="store_true", help="then remove it from the store"
    )


def manifest_push(args: Namespace) -> int:
    """Upload an index and all its images."""
    from layersmith.anatomy.indexes import read_index
    from layersmith.cli.registry import push

    with open_store(args) as store:
        read_index(store, args.image)
    status = push(args)
    if args.purge:
        with open_store(args) as store:
            store.refs.delete(args.image)
    return status


# remove, rm

MANIFEST_REMOVE_EXAMPLES = """\
examples:
  layersmith manifest remove web:1.2 web:armhf
  layersmith manifest remove web:1.2 sha256:3f1c…
"""


def manifest_remove_arguments(parser: ArgumentParser) -> None:
    _list_argument(parser)
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE|DIGEST", help="what the index is no longer to list"
    )


def manifest_remove(args: Namespace) -> int:
    """Take images out of an index."""
    from layersmith.anatomy.indexes import read_index, without_entry

    with open_store(args) as store:
        index = read_index(store, args.list)
        for image in args.images:
            index = without_entry(index, _digest(store, index, image))
        _write(store, args.list, index)
    return 0


MANIFEST_RM_EXAMPLES = """\
examples:
  layersmith manifest rm web:1.2        the images that it lists stay, if they have names of their own
"""


def manifest_rm_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("lists", nargs="+", metavar="LIST", help="the names of indexes")


def manifest_rm(args: Namespace) -> int:
    """Remove indexes."""
    from layersmith.anatomy.indexes import read_index

    with open_store(args) as store:
        for name in args.lists:
            read_index(store, name)
        for name in args.lists:
            store.refs.delete(name)
            print(f"Untagged: {name}")
    return 0


# What they share


def _entries(args: Namespace, store: Store) -> list[Descriptor]:
    """What the index is to say of the images that ``args`` name."""
    from layersmith.anatomy.indexes import entries

    return [
        entry for name in args.images for entry in entries(store, _image(args, store, name), every=args.all)
    ]


def _image(args: Namespace, store: Store, name: str) -> Descriptor:
    """An image in the store, or else pulled; without a name of its own there, for the index will hold it."""
    plain = name.removeprefix("docker://")
    if plain == name:
        try:
            return store.refs.resolve(name)
        except NotFoundError:
            pass
    from layersmith.cli.progress import display
    from layersmith.transport.registry import Registry

    with display("auto", ticking=True) as progress, Registry(progress=progress) as registry:
        return registry.pull(store, registry.config.reference(plain), all_platforms=args.all)


def _described(args: Namespace, entry: Descriptor) -> Descriptor:
    from layersmith.anatomy.indexes import described

    return described(
        entry,
        os=args.os,
        architecture=args.arch,
        variant=args.variant,
        os_version=args.os_version,
        os_features=args.os_features,
        annotations=_annotations(args),
    )


def _annotations(args: Namespace) -> Annotations:
    found = []
    for text in args.annotation:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise UsageError(f"invalid --annotation {text!r}", hint="write --annotation NAME=VALUE")
        found.append((name, value))
    return tuple(found)


def _digest(store: Store, index: Index, text: str) -> str:
    """The digest of the image of ``index`` that ``text`` means: a name in the store, or the beginning of its digest."""
    prefix = text if text.startswith("sha256:") else f"sha256:{text}"
    found = [entry.digest for entry in index.manifests if entry.digest.startswith(prefix)]
    return found[0] if len(found) == 1 else store.refs.resolve(text).digest


def _write(store: Store, name: str, index: Index) -> None:
    from layersmith.anatomy.indexes import write_index

    descriptor = write_index(store, index)
    store.refs.set(name, descriptor)
    print(descriptor.digest)
