"""One image, taken apart: ``inspect``, ``history``, ``layers``."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from layersmith.cli.listing import Column, Record, emit, listing_arguments, show
from layersmith.cli.stores import open_store, platform_argument, platform_of
from layersmith.cli.table import ago, cut, short, size

if TYPE_CHECKING:
    from layersmith.anatomy.layers import HistoryLine, LayerSummary
    from layersmith.oci.descriptor import Descriptor
    from layersmith.oci.platform import Platform
    from layersmith.store import Store

# inspect

INSPECT_EXAMPLES = """\
examples:
  layersmith inspect web                                         all there is, as JSON
  layersmith inspect --format '{{.Config.Env}}' web
  layersmith inspect --format '{{range .Layers}}{{.DiffID}}{{"\\n"}}{{end}}' web
  layersmith inspect --format '.Config.Labels["org.opencontainers.image.version"]' web
  layersmith inspect --raw web                                   the manifest, byte by byte
  layersmith inspect --format '{{.State.Status}}' box            of a container
"""


def inspect_arguments(parser: ArgumentParser) -> None:
    from layersmith.cli.format import HELP

    parser.add_argument(
        "names", nargs="+", metavar="CONTAINER|IMAGE", help="a name, or the beginning of an id or digest"
    )
    parser.add_argument("-f", "--format", metavar="FORMAT", help=HELP)
    parser.add_argument(
        "--type", choices=("container", "image"), help="(default: a container, else an image)"
    )
    parser.add_argument("--raw", action="store_true", help="print the manifest (or index) as it is stored")
    platform_argument(parser)


def inspect(args: Namespace) -> int:
    """Print config, manifest, layers and history of images, or all there is to know of containers."""
    platform = platform_of(args)
    with open_store(args) as store:
        if args.raw:
            for name in args.names:
                sys.stdout.buffer.write(store.blobs.read(store.refs.resolve(name)))
            return 0
        found = [_document(store, name, args.type, platform) for name in args.names]
    _print_documents(found, args.format)
    return 0


def _document(store: Store, name: str, kind: str | None, platform: Platform | None) -> dict[str, Any]:
    from layersmith.anatomy.documents import inspect as image_document
    from layersmith.cli.stores import container_called
    from layersmith.containers.document import document as container_document
    from layersmith.errors import NotFoundError

    container = None if kind == "image" else container_called(store.root, name)
    if container is not None:
        return container_document(container)
    if kind == "container":
        raise NotFoundError(f"no container {name!r}", hint="`layersmith ps -a` lists those there are")
    return image_document(store, name, platform)


def _print_documents(found: list[dict[str, Any]], wanted: str | None) -> None:
    """One JSON array, as docker prints it, or each by ``--format``."""
    from layersmith.cli.format import formatter

    if wanted is None:
        print(json.dumps(found, indent=4))
    elif wanted == "json":
        print(json.dumps(found, separators=(",", ":")))
    else:
        write = formatter(wanted)
        for one in found:
            emit(write(one))


# history

HISTORY_EXAMPLES = """\
examples:
  layersmith history web
  layersmith history --no-trunc --format '{{.CreatedBy}}' web
"""


def history_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("image", metavar="IMAGE", help="a name, or the beginning of a digest")
    listing_arguments(parser, quiet="layers' digests")
    platform_argument(parser)


def history(args: Namespace) -> int:
    """Say how an image came about, the latest step first."""
    from layersmith.anatomy.images import find
    from layersmith.anatomy.layers import history as lines_of

    with open_store(args) as store:
        _, image = find(store, args.image, platform_of(args))
    records = [_history_record(line) for line in reversed(lines_of(image))]
    if args.quiet:
        records = [record for record in records if record["Layer"]]
    columns = (
        Column("LAYER", lambda record: _id(record["Layer"], whole=args.no_trunc)),
        Column("CREATED", lambda record: ago(record["CreatedAt"])),
        Column("CREATED BY", lambda record: _made(record["CreatedBy"], whole=args.no_trunc)),
        Column("SIZE", lambda record: size(record["Size"]), right=True),
        Column("COMMENT", lambda record: record["Comment"]),
    )
    show(args, records, columns, quiet="Layer")
    return 0


def _history_record(line: HistoryLine) -> Record:
    history = line.history
    return {
        "Layer": "" if line.layer is None else line.layer.descriptor.digest,
        "DiffID": "" if line.layer is None else line.layer.diff_id,
        "CreatedAt": history.created or "",
        "CreatedBy": history.created_by,
        "Size": 0 if line.layer is None else line.layer.descriptor.size,
        "Author": history.author,
        "Comment": history.comment,
        "EmptyLayer": line.layer is None,
    }


def _id(digest: str, *, whole: bool) -> str:
    return (digest if whole else short(digest)) or "-"


def _made(created_by: str, *, whole: bool) -> str:
    return created_by if whole else cut(" ".join(created_by.split()))


# layers

LAYERS_EXAMPLES = """\
examples:
  layersmith layers web
  layersmith layers --format '{{.Digest}} {{.Snapshot}}' web       where each lies unpacked
  layersmith diff --layer 2 web                                    what the second one changed

FILES are the entries of the layer's tar but the whiteouts, which DELETED counts; UNPACKED is their size.
"""


def layers_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("image", metavar="IMAGE", help="a name, or the beginning of a digest")
    listing_arguments(parser, quiet="digests")
    platform_argument(parser)


def layers(args: Namespace) -> int:
    """List an image's layers, the lowest first."""
    from layersmith.anatomy.images import find
    from layersmith.anatomy.layers import layers as layers_of

    with open_store(args) as store:
        _, image = find(store, args.image, platform_of(args))
        records = [_layer_record(layer) for layer in layers_of(store, image)]
    columns = (
        Column("#", lambda record: str(record["Number"]), right=True),
        Column("DIGEST", lambda record: _id(record["Digest"], whole=args.no_trunc)),
        Column("DIFF ID", lambda record: _id(record["DiffID"], whole=args.no_trunc)),
        Column("SIZE", lambda record: size(record["Size"]), right=True),
        Column("UNPACKED", lambda record: size(record["UnpackedSize"]), right=True),
        Column("FILES", lambda record: str(record["Files"]), right=True),
        Column("DELETED", lambda record: str(record["Deleted"]), right=True),
        Column("CREATED BY", lambda record: _made(record["CreatedBy"], whole=args.no_trunc)),
    )
    show(args, records, columns, quiet="Digest")
    return 0


def _layer_record(layer: LayerSummary) -> Record:
    descriptor: Descriptor = layer.layer.descriptor
    return {
        "Number": layer.number,
        "Digest": descriptor.digest,
        "DiffID": layer.layer.diff_id,
        "MediaType": descriptor.media_type,
        "Size": descriptor.size,
        "UnpackedSize": layer.size,
        "Files": layer.files,
        "Deleted": layer.removed,
        "CreatedAt": layer.history.created or "",
        "CreatedBy": layer.history.created_by or layer.history.comment,
        "Snapshot": "" if layer.snapshot is None else str(layer.snapshot),
    }
