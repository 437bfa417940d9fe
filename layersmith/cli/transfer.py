"""Images between the store and files: ``export``, ``load``, ``import``."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from layersmith.cli.stores import open_store, platform_argument, platform_of
from layersmith.errors import UsageError

if TYPE_CHECKING:
    from layersmith.transport import ImportOptions, Output

# export

EXPORT_EXAMPLES = """\
examples:
  layersmith export web -o web.tar                               an OCI archive, which `load` takes back
  layersmith export web -o type=docker,dest=web.tar              for `docker load`
  layersmith export web -o type=oci,dest=web,tar=false           an OCI layout directory
  layersmith export web -o type=oci,dest=web.tar,compression=gzip
  layersmith export web -o type=local,dest=rootfs                all files, as a directory
  layersmith export web -o type=tar,dest=- | tar tv              all files, as a tar
  layersmith export web -o type=layers,dest=layers               each layer's tar, and layers.json
  layersmith export web | ssh host layersmith load -
"""


def export_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("image", metavar="IMAGE", help="a name, or the beginning of a digest")
    parser.add_argument(
        "-o",
        "--output",
        action="append",
        default=[],
        metavar="FILE|type=TYPE,dest=FILE",
        help="where to, and how (repeatable): types oci, docker, tar, local, layers, image; a FILE alone is "
        "type=oci, - is standard output (default: -)",
    )
    parser.add_argument(
        "--name", action="append", default=[], metavar="NAME[:TAG]", help="what it is called there"
    )
    parser.add_argument(
        "--source-date-epoch", metavar="SECONDS", help="what rewrite-timestamp=true lowers newer times to"
    )
    platform_argument(parser)


def export(args: Namespace) -> int:
    """Write an image to a file, a directory or standard output."""
    from layersmith.anatomy.images import names_of
    from layersmith.image import select
    from layersmith.transport import save

    outputs = [_output(text) for text in args.output or ["-"]]
    platform = platform_of(args)
    with open_store(args, owners=True) as store:
        descriptor = store.refs.resolve(args.image)
        names = tuple(args.name) or _names(args.image, names_of(store, descriptor))
        if platform is not None:
            descriptor = select(store, descriptor, platform)
        for output in outputs:
            save(store, descriptor, output, names=names, platform=platform, epoch=_epoch(args))
    return 0


def _output(text: str) -> Output:
    """``-o`` of export: a word alone is an OCI archive, or a layout where it names a directory."""
    from layersmith.transport import Output, parse_output

    if "=" in text:
        output = parse_output(text)
        if output.push:
            raise UsageError(f"-o {text!r}: export does not upload", hint="layersmith push does")
        return output
    if text.endswith("/") or Path(text).is_dir():
        return Output("oci", text, tar=False)
    return Output("oci", text)


def _names(given: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """The name that the image was asked for by; all that it has if that was a digest."""
    from layersmith.oci.reference import parse_reference

    try:
        reference = parse_reference(given)
    except UsageError:
        return names
    familiar = reference.with_tag(reference.tag).familiar() if reference.tag else ""
    return (familiar,) if familiar in names else names


# load

LOAD_EXAMPLES = """\
examples:
  layersmith load web.tar                   what `docker save`, `layersmith export` or skopeo wrote
  layersmith load layout/                   an OCI layout directory
  xz -dc web.tar.xz | layersmith load -
  layersmith load layout/ --name web:1.2    its one image, under another name
"""


def load_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "file", nargs="?", default="-", metavar="FILE|DIR|-", help="OCI archive or layout, docker archive"
    )
    parser.add_argument("-i", "--input", metavar="FILE", help="the same, as docker load has it")
    parser.add_argument("--name", metavar="NAME[:TAG]", help="call its one image so")
    parser.add_argument("--only", metavar="REF", help="of a layout, the image with this reference name")
    parser.add_argument("-q", "--quiet", action="store_true", help="print digests only")


def load(args: Namespace) -> int:
    """Take images from a file into the store."""
    from layersmith.transport import load as load_images

    where = args.input or args.file
    source = _stdin("load") if where == "-" else Path(where)
    with open_store(args, create=True) as store:
        found = load_images(store, source, only=args.only, name=args.name)
    for image in found:
        if args.quiet:
            print(image.descriptor.digest)
        else:
            for name in image.names or (image.descriptor.digest,):
                print(f"Loaded: {name}")
    return 0


def _stdin(command: str) -> BinaryIO:
    if sys.stdin.isatty():
        raise UsageError(
            f"{command} would read an archive from the terminal", hint=f"layersmith {command} FILE"
        )
    return sys.stdin.buffer


# import

IMPORT_EXAMPLES = """\
examples:
  mmdebstrap --variant=minbase bookworm - | layersmith import - debian:bookworm
  layersmith import alpine-minirootfs-3.20.0-x86_64.tar.gz alpine:3.20 --change 'CMD ["/bin/sh"]'
  layersmith import ./rootfs base --change 'ENV LANG=C.UTF-8' --change 'WORKDIR /srv'
  layersmith import --host sh ls cat base        programs of this machine, and what they load: no network needed
"""


def import_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "words",
        nargs="+",
        metavar="ROOTFS NAME",
        help="a tar (gz, xz, bz2, zst), a directory or -, and a name for the image; with --host: programs, then the name",
    )
    parser.add_argument(
        "--host", action="store_true", help="take programs of this machine, with their libraries"
    )
    parser.add_argument(
        "-c",
        "--change",
        action="append",
        default=[],
        metavar="INSTRUCTION",
        help="set the image's CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, USER, VOLUME, WORKDIR, ... (repeatable)",
    )
    parser.add_argument("-m", "--message", default="", metavar="TEXT", help="the comment in its history")
    parser.add_argument("--platform", metavar="OS/ARCH", help="what it runs on (default: this machine's)")
    parser.add_argument("--compression", default="zstd", metavar="NAME[:LEVEL]", help="zstd, gzip or none")
    parser.add_argument(
        "--source-date-epoch", metavar="SECONDS", help="lower newer times to this ($SOURCE_DATE_EPOCH)"
    )


def import_(args: Namespace) -> int:
    """Make an image of a root file system, or of programs of this machine."""
    from layersmith.oci.reference import parse_reference
    from layersmith.transport import import_host, import_rootfs

    *sources, name = args.words
    if not sources:
        what = "programs and then a name" if args.host else "a root file system and a name"
        raise UsageError(f"import takes {what}", hint="layersmith import ROOTFS NAME[:TAG]")
    if len(sources) > 1 and not args.host:
        raise UsageError(
            f"import takes one root file system, not {len(sources)}",
            hint="did you mean `layersmith import --host PROGRAM... NAME`?",
        )
    parse_reference(name)
    options = _import_options(args)
    with open_store(args, create=True, owners=True) as store:
        if args.host:
            descriptor = import_host(store, sources, options)
        else:
            source = _stdin("import") if sources[0] == "-" else Path(sources[0])
            descriptor = import_rootfs(store, source, options)
        store.refs.set(name, descriptor)
    print(descriptor.digest)
    return 0


def _import_options(args: Namespace) -> ImportOptions:
    from layersmith.layer.compress import parse_compression
    from layersmith.transport import ImportOptions

    return ImportOptions(
        changes=tuple(args.change),
        message=args.message,
        platform=platform_of(args),
        epoch=_epoch(args),
        compression=parse_compression(args.compression),
    )


def _epoch(args: Namespace) -> int | None:
    text = args.source_date_epoch or os.environ.get("SOURCE_DATE_EPOCH", "")
    if text and not text.isdecimal():
        raise UsageError(f"invalid SOURCE_DATE_EPOCH {text!r}", hint="it is a number of seconds since 1970")
    return int(text) if text else None
