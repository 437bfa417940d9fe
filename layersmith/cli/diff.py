"""``diff``: what layers do to the files below them, as `docker diff` writes it; ``--raw``: how they do it."""

from __future__ import annotations

import stat
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from typing import TYPE_CHECKING

from layersmith.cli.listing import emit
from layersmith.cli.stores import container_called, open_store, platform_argument, platform_of
from layersmith.cli.table import printable, short
from layersmith.errors import UsageError

if TYPE_CHECKING:
    from layersmith.anatomy.differences import Change
    from layersmith.anatomy.whiteouts import RawFile
    from layersmith.containers.container import Container
    from layersmith.image import Image
    from layersmith.store import Store

DIFF_EXAMPLES = """\
examples:
  layersmith diff web               what web's layers do to its base: the image in the store that it begins with
  layersmith diff --layer -1 web    what the topmost layer does; 1 is the lowest
  layersmith diff web:1 web:2       what is different in web:2
  layersmith diff --by all web:1 web:2                layers, packages, config and files
  layersmith diff --by package web:1 web:2            of dpkg, apk, rpm, pip and npm
  layersmith diff --raw web         the whiteouts as they are: on disk, and in the tar
  layersmith diff box               what a container changed, also while it runs

A added, C changed, D deleted; of a deleted directory only itself is listed.
"""


def diff_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("image", metavar="IMAGE|CONTAINER", help="a name, or the beginning of a digest or id")
    add("other", nargs="?", metavar="IMAGE2", help="compare with this image")
    add("--layer", type=int, metavar="N", help="this layer alone: 1 is the lowest, -1 the topmost")
    add("--raw", action="store_true", help="the layers' files as overlayfs and the tar have them")
    add("--format", metavar="FORMAT", help="json, or a template with .Kind, .Path, .Size; a line for each")
    add(
        "--by",
        choices=("file", "layer", "package", "config", "all"),
        help="of two images: compare what (default: file)",
    )
    platform_argument(parser)


def diff(args: Namespace) -> int:
    """Print changed paths."""
    from layersmith.anatomy.differences import base_of, image_changes, layer_changes
    from layersmith.anatomy.images import find
    from layersmith.anatomy.layers import numbered

    if args.other is not None and (args.raw or args.layer is not None):
        raise UsageError("--raw and --layer look at one image", hint="leave IMAGE2 out")
    if args.other is None and args.by is not None:
        raise UsageError("--by compares two images", hint="name IMAGE2")
    if args.other is None and args.layer is None:
        from layersmith.cli.containers import root_of

        container = container_called(root_of(args), args.image)
        if container is not None:
            return _container(args, container)
    with open_store(args, owners=True) as store:
        platform = platform_of(args)
        _, image = find(store, args.image, platform)
        if args.other is not None:
            _, other = find(store, args.other, platform)
            if args.by in (None, "file"):
                _show(args, image_changes(store, image.layers, other.layers))
            else:
                _compare(args, store, image, other)
            return 0
        if args.layer is None:
            first, end = base_of(store, image)[0], len(image.layers)
        else:
            first = numbered(image, args.layer)
            end = first + 1
        if args.raw:
            for number in range(first, end):
                _show_raw(store, image, number)
        else:
            _show(args, layer_changes(store, image.layers[:end], first))
    return 0


def _compare(args: Namespace, store: Store, old: Image, new: Image) -> None:
    """Two images by layer, package, config; ``all``: one after the other, files last."""
    from layersmith.anatomy.differences import image_changes, shown_path
    from layersmith.anatomy.packages import package_changes
    from layersmith.anatomy.parts import config_changes, layer_parts
    from layersmith.cli.units import human_size

    records: list[tuple[str, dict[str, object]]] = []
    if args.by in ("layer", "all"):
        for kind, layer, made in layer_parts(old, new):
            digest, size = layer.descriptor.digest, layer.descriptor.size
            line = f"{short(digest)} {human_size(size)} {printable(made)}"
            records.append(
                (line, {"Of": "layer", "Kind": kind, "Digest": digest, "Size": size, "CreatedBy": made})
            )
    if args.by in ("package", "all"):
        for change in package_changes(store, old.layers, new.layers):
            line = f"{change.manager} {change.name} {_versions(change.before, change.after)}"
            line += f" in /{change.place}" if change.place else ""
            record: dict[str, object] = {"Of": "package", "Kind": change.kind, "Manager": change.manager}
            record |= {
                "Name": change.name,
                "Before": change.before,
                "After": change.after,
                "Place": change.place,
            }
            records.append((line, record))
    if args.by in ("config", "all"):
        for kind, name, before, after in config_changes(old.config, new.config):
            records.append(
                (
                    f"{name} {_versions(before, after)}",
                    {"Of": "config", "Kind": kind, "Name": name, "Before": before, "After": after},
                )
            )
    if args.by == "all":
        for file in image_changes(store, old.layers, new.layers):
            path, entry = shown_path(file.path), file.after or file.before
            records.append(
                (path, {"Of": "file", "Kind": file.kind, "Path": path, "Size": entry.size if entry else 0})
            )
    if args.format is None:
        for line, record in records:
            print(f"{record['Of']:<8}{record['Kind']} {printable(line)}")
        return
    from layersmith.cli.format import formatter

    write = formatter(args.format)
    for _, record in records:
        emit(write(record))


def _versions(before: str, after: str) -> str:
    return f"{before} → {after}" if before and after else before or after


def _container(args: Namespace, container: Container) -> int:
    from layersmith.anatomy.whiteouts import on_disk
    from layersmith.containers.changes import container_diff
    from layersmith.containers.files import isolate

    namespace = isolate(container).xattr_namespace
    if args.raw:
        print(f"container {container.name} on disk, in {container.upper}")
        for found in on_disk(container.upper):
            print("  " + raw_line(found))
        return 0
    with open_store(args) as store:
        _show(args, container_diff(store, container, xattr_namespace=namespace))
    return 0


def _show(args: Namespace, changes: Iterable[Change]) -> None:
    from layersmith.anatomy.differences import shown_path

    if args.format is None:
        for change in changes:
            print(f"{change.kind} {printable(shown_path(change.path))}")
        return
    from layersmith.cli.format import formatter

    write = formatter(args.format)
    for change in changes:
        entry = change.after or change.before
        record = {"Kind": change.kind, "Path": shown_path(change.path), "Size": entry.size if entry else 0}
        emit(write(record))


def _show_raw(store: Store, image: Image, number: int) -> None:
    from layersmith.anatomy.whiteouts import in_tar, on_disk
    from layersmith.layer.unpack import unpack
    from layersmith.linux.userns import isolation

    layer = image.layers[number]
    stand = isolation()
    directory = unpack(
        store,
        layer,
        image.layers[:number],
        xattr_namespace=stand.xattr_namespace,
        ignore_chown_errors=stand.single_id,
    )
    print(f"layer {number + 1} of {len(image.layers)} on disk, in {directory}")
    for found in on_disk(directory):
        print("  " + raw_line(found))
    print(f"layer {number + 1} of {len(image.layers)} in the tar {short(layer.descriptor.digest)}")
    for found in in_tar(store, layer):
        print("  " + raw_line(found))


def raw_line(found: RawFile) -> str:
    """A file as ``ls -l`` shows it, and what it means where overlayfs or the layer format give it a meaning."""
    what = f"{found.device[0]}, {found.device[1]}" if found.device else str(found.size)
    line = f"{stat.filemode(found.mode)} {found.uid}:{found.gid} {what:>8} {printable(found.path) or '.'}"
    if found.link:
        line += f" -> {printable(found.link)}"
    if found.same_as:
        line += f" link to {printable(found.same_as)}"
    for name, value in found.xattrs:
        line += f" {name}={printable(value)}"
    if found.hides is not None:
        path = "/" + printable(found.hides)
        line += f"   # hides all below {path} in lower layers" if found.opaque else f"   # deletes {path}"
    return line
