"""A container's files: ``cp`` and ``commit``."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from contextlib import ExitStack
from typing import TYPE_CHECKING

from layersmith.cli.containers import containers_of
from layersmith.cli.stores import open_store
from layersmith.errors import UsageError

if TYPE_CHECKING:
    from layersmith.containers.container import Container
    from layersmith.containers.copy import Place

CP_EXAMPLES = """\
examples:
  layersmith cp web:/etc/nginx/nginx.conf .        out of a container, running or not
  layersmith cp site/. web:/srv/www                what is in ./site, into one
  layersmith cp web:/var/log - | tar t             as a tar; `cp - web:/srv` unpacks one
"""

COMMIT_EXAMPLES = """\
examples:
  layersmith commit box tools:1                    an image of box as it is now
  layersmith commit -m 'with curl' -c 'CMD ["sh"]' -c 'ENV A=1' box tools:2
"""


def cp_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("-a", "--archive", action="store_true", help="keep owners (and, out of a container, set-id bits)")
    add(
        "-L", "--follow-link", action="store_true", help="if SOURCE is a symbolic link, copy what it leads to"
    )
    add("-q", "--quiet", action="store_true", help="(for docker's sake: nothing is ever printed)")
    add("source", metavar="[CONTAINER:]SOURCE", help="a file or directory; - is a tar on standard input")
    add("target", metavar="[CONTAINER:]TARGET", help="where to; - is a tar on standard output")


def cp(args: Namespace) -> int:
    """Copy files between a container and this machine."""
    source, target = _parted(args.source), _parted(args.target)
    if (source is None) == (target is None):
        raise UsageError("one side must be a container's", hint="write CONTAINER:PATH for it")
    name, inside = source or target or ("", "")
    container = containers_of(args).find(name)
    # Everything of this side before the namespaces change: then its paths would be the container's supervisor's.
    outside = args.target if source is not None else args.source
    here = None if outside == "-" else _here(outside)
    if outside == "-" and source is not None and sys.stdout.isatty():
        raise UsageError("a tar is nothing for a terminal", hint="redirect it: layersmith cp … - > files.tar")
    from layersmith.containers import files

    isolation = files.isolate(container)
    with ExitStack() as stack:
        store = stack.enter_context(open_store(args))
        root = stack.enter_context(files.opened(store, container, isolation))
        _copy(args, _there(root, container, inside), here, out=source is not None)
    return 0


def _copy(args: Namespace, there: Place, here: Place | None, *, out: bool) -> None:
    from layersmith.containers import copy

    if here is None and out:
        copy.write_tar(there, sys.stdout.buffer, follow=args.follow_link)
    elif here is None:
        copy.read_tar_into(sys.stdin.buffer, there, archive=args.archive)
    else:
        source, target = (there, here) if out else (here, there)
        copy.copy(source, target, follow=args.follow_link, archive=args.archive)


def _parted(text: str) -> tuple[str, str] | None:
    """(container, path) of ``CONTAINER:PATH``; None for a path of this machine, which with a colon in it starts with
    ``/`` or ``.``, as with docker."""
    name, colon, path = text.partition(":")
    if not colon or not name or text.startswith(("/", ".")):
        return None
    return name, path


def _here(path: str) -> Place:
    from layersmith.containers.copy import Place

    full = os.path.join(os.getcwd(), path)
    return Place(os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), full, path)


def _there(root: int, container: Container, path: str) -> Place:
    from layersmith.containers.copy import Place

    return Place(root, "/" + path.lstrip("/"), f"{container.name}:{path}", contained=True)


def commit_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("-a", "--author", default="", metavar="TEXT", help="who made it")
    add("-m", "--message", default="", metavar="TEXT", help="a comment in the image's history")
    add(
        "-c",
        "--change",
        action="append",
        default=[],
        metavar="INSTRUCTION",
        help="change the config: CMD, ENV, USER, …",
    )
    add(
        "-p", "--pause", default="true", choices=("true", "false"), help="stop the container meanwhile (true)"
    )
    add("--source-date-epoch", metavar="SECONDS", help="lower every newer time in the layer to this one")
    add("--compression", default="zstd", metavar="NAME[:LEVEL]", help="of the layer: zstd, gzip or none")
    add("container", metavar="CONTAINER")
    add("image", nargs="?", metavar="NAME[:TAG]", help="name the image")


def commit(args: Namespace) -> int:
    """Make an image of a container."""
    from layersmith.containers import files
    from layersmith.containers.commit import CommitOptions
    from layersmith.containers.commit import commit as commit_container
    from layersmith.containers.control import paused
    from layersmith.layer.compress import parse_compression
    from layersmith.oci.reference import parse_reference

    if args.image:
        parse_reference(args.image)
    options = CommitOptions(
        author=args.author,
        message=args.message,
        changes=tuple(args.change),
        epoch=_epoch(args.source_date_epoch or os.environ.get("SOURCE_DATE_EPOCH", "")),
        compression=parse_compression(args.compression),
    )
    container = containers_of(args).find(args.container)
    isolation = files.isolate(container)
    with ExitStack() as stack:
        store = stack.enter_context(open_store(args))
        if args.pause == "true":
            stack.enter_context(paused(container))
        descriptor = commit_container(store, container, options, xattr_namespace=isolation.xattr_namespace)
        if args.image:
            store.refs.set(args.image, descriptor)
        else:
            store.refs.keep(descriptor)
    print(descriptor.digest)
    return 0


def _epoch(text: str) -> int | None:
    try:
        return int(text) if text else None
    except ValueError:
        raise UsageError(
            f"invalid SOURCE_DATE_EPOCH {text!r}", hint="it is a number of seconds since 1970"
        ) from None
