"""The names in the store: ``images``, ``tag``, ``rmi``."""

from __future__ import annotations

import fnmatch
import sys
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from layersmith.cli.listing import Column, Record, listing_arguments, show
from layersmith.cli.stores import open_store
from layersmith.cli.table import ago, short, size
from layersmith.errors import LayersmithError, UsageError

if TYPE_CHECKING:
    from layersmith.anatomy.images import ImageSummary

IMAGES_EXAMPLES = """\
examples:
  layersmith images                                  what is in the store
  layersmith images 'web*'                           what has such a name
  layersmith images --format '{{.Repository}}:{{.Tag}} {{size .Size}}'
  layersmith images --format json | jq .Digest
  layersmith rmi $(layersmith images -q --filter dangling=true)

SIZE is what the image takes in the store, compressed, with what it shares with others.
"""


def images_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("pattern", nargs="?", metavar="NAME", help="only images of this name; * and ? match")
    parser.add_argument("--digests", action="store_true", help="show whole digests")
    parser.add_argument(
        "--filter",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="dangling=true|false, label=NAME[=VALUE], reference=PATTERN",
    )
    parser.add_argument("-a", "--all", action="store_true", help="(for docker's sake: all are always shown)")
    listing_arguments(parser, quiet="digests")


def images(args: Namespace) -> int:
    """List the images."""
    from layersmith.anatomy.images import images as all_images
    from layersmith.store import default_root

    filters = [_filter(text) for text in args.filter]
    if args.pattern:
        filters.append(("reference", args.pattern))
    found: list[ImageSummary] = []
    # Where nothing was ever stored, there is nothing; but a --root that is no store is a mistake.
    if args.root is not None or (default_root() / "oci-layout").exists():
        with open_store(args) as store:
            found = [image for image in all_images(store) if all(_matches(image, *one) for one in filters)]
    for image in found:
        if image.problem:
            print(
                f"warning: {image.name or short(image.descriptor.digest)}: {image.problem}", file=sys.stderr
            )
    whole = args.no_trunc or args.digests
    columns = [
        Column("REPOSITORY", lambda record: record["Repository"] or "<none>"),
        Column("TAG", lambda record: record["Tag"] or "<none>"),
        Column("IMAGE ID", lambda record: record["ID"] if args.no_trunc else short(record["ID"])),
        Column("CREATED", lambda record: ago(record["CreatedAt"])),
        Column("SIZE", lambda record: size(record["Size"]), right=True),
    ]
    if whole and not args.no_trunc:
        columns.insert(2, Column("DIGEST", lambda record: record["Digest"]))
    if any(len(image.platforms) > 1 for image in found):
        columns.insert(-2, Column("PLATFORMS", lambda record: ",".join(record["Platforms"])))
    show(args, map(_record, found), columns, quiet="ID")
    return 0


def _record(image: ImageSummary) -> Record:
    return {
        "Repository": image.repository,
        "Tag": image.tag,
        "ID": image.descriptor.digest,
        "Digest": image.descriptor.digest,
        "CreatedAt": (image.config.created if image.config else None) or "",
        "Size": None if image.config is None else image.size,
        "Platforms": [str(platform) for platform in image.platforms],
        "Labels": dict(image.config.labels) if image.config else {},
    }


def _filter(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    if key not in ("dangling", "label", "reference") or not value:
        raise UsageError(
            f"invalid --filter {text!r}",
            hint="there are dangling=true, label=NAME[=VALUE], reference=PATTERN",
        )
    if key == "dangling" and value not in ("true", "false"):
        raise UsageError(f"invalid --filter {text!r}", hint="write dangling=true or dangling=false")
    return key, value


def _matches(image: ImageSummary, key: str, value: str) -> bool:
    if key == "dangling":
        return (not image.name) == (value == "true")
    if key == "reference":
        return any(fnmatch.fnmatchcase(name, value) for name in (image.name, image.repository) if name)
    name, equals, wanted = value.partition("=")
    labels = dict(image.config.labels) if image.config else {}
    return name in labels and (not equals or labels[name] == wanted)


# tag

TAG_EXAMPLES = """\
examples:
  layersmith tag web web:1.2
  layersmith tag 3f1c2a9d web:old web:rollback     by the beginning of its digest
"""


def tag_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("image", metavar="IMAGE", help="a name, or the beginning of a digest")
    parser.add_argument("names", nargs="+", metavar="NAME[:TAG]", help="further names for it")


def tag(args: Namespace) -> int:
    """Give an image further names."""
    with open_store(args) as store:
        descriptor = store.refs.resolve(args.image)
        for name in args.names:
            store.refs.set(name, descriptor)
    return 0


# rmi

RMI_EXAMPLES = """\
examples:
  layersmith rmi web:old                     take the name away; the image goes with its last name
  layersmith rmi -f 3f1c2a9d                 by digest, with all its names
  layersmith rmi web:1 web:2 && layersmith prune

Layers stay in the store, where other images may share them; `layersmith prune` deletes those that none needs.
"""


def rmi_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="a name, or the beginning of a digest")
    parser.add_argument(
        "-f",
        "--force",
        action="store_true",
        help="all names of a digest; and it is no error if there is none",
    )


def rmi(args: Namespace) -> int:
    """Remove names, and images that have none left."""
    from layersmith.anatomy.images import remove
    from layersmith.cli.errors import show as show_error
    from layersmith.containers.container import Containers
    from layersmith.errors import NotFoundError

    status = 0
    with open_store(args) as store:
        used = Containers(store.root).images()
        for name in args.images:
            try:
                removal = remove(store, name, force=args.force, used=used)
            except LayersmithError as error:
                if not (args.force and isinstance(error, NotFoundError)):
                    show_error(error)
                    status = status or error.exit_code
                continue
            for untagged in removal.untagged:
                print(f"Untagged: {untagged}")
            if removal.deleted:
                print(f"Deleted: {removal.deleted}")
    return status
