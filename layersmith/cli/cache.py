"""``layersmith cache mounts``: the directories of RUN --mount=type=cache."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from layersmith.cli.listing import Column, listing_arguments, show
from layersmith.cli.stores import open_store
from layersmith.cli.table import ago, size
from layersmith.errors import StoreError, UsageError

if TYPE_CHECKING:
    from layersmith.remotecache.options import CacheOption
    from layersmith.store import Store
    from layersmith.store.mounts import KeptMount

VERBS = ("ls", "inspect", "rm", "export", "import")

CACHE_MOUNTS_EXAMPLES = """\
examples:
  layersmith cache mounts                                    list them
  layersmith cache mounts inspect pip                        one, as JSON
  layersmith cache mounts rm pip                             empty it; --all: every one
  layersmith cache mounts export pip --to pip.tar            or --to type=registry,ref=NAME; without a name: all
  layersmith cache mounts import --from pip.tar              what is here already stays as it is

`build --cache-to … --cache-mounts` exports those of a build with its cache, `--cache-from … --cache-mounts` brings them
back. A mount is called by its id, or by the beginning of its name.
"""


def cache_mounts_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("verb", nargs="?", default="ls", choices=VERBS, help="what to do (default: ls)")
    add("mounts", nargs="*", metavar="MOUNT", help="which (an id)")
    add("-a", "--all", action="store_true", help="rm: all of them")
    add("--to", metavar="FILE|type=TYPE,…", help="export: where to; as --cache-to of build")
    add(
        "--from",
        dest="source",
        metavar="FILE|type=TYPE,…",
        help="import: where from; as --cache-from of build",
    )
    listing_arguments(parser, quiet="the names")


def cache_mounts(args: Namespace) -> int:
    """List, inspect, remove, export or import cache mounts."""
    with open_store(args, owners=True, create=args.verb == "import") as store:
        match args.verb:
            case "rm":
                return _remove(args, store)
            case "export":
                return _export(args, store)
            case "import":
                return _import(args, store)
            case "inspect":
                return _inspect(args, store)
            case _:
                return _list(args, store)


def _list(args: Namespace, store: Store) -> int:
    mounts = _chosen(args, store)
    columns = (
        Column("NAME", lambda record: record["Name"] if args.no_trunc else record["Name"][:12]),
        Column("ID", lambda record: record["Id"]),
        Column("COPIES", lambda record: str(record["Copies"]), right=True),
        Column("SIZE", lambda record: size(record["Size"]), right=True),
        Column("LAST USED", lambda record: ago(record["LastUsed"])),
    )
    show(args, [_record(store, mount) for mount in mounts], columns, quiet="Name")
    return 0


def _chosen(args: Namespace, store: Store) -> tuple[KeptMount, ...]:
    """Those that are named, or all. Raises NotFoundError."""
    if not args.mounts:
        return store.mounts.list()
    found = {mount.name: mount for word in args.mounts for mount in store.mounts.find(word)}
    return tuple(found.values())


def _record(store: Store, mount: KeptMount) -> dict[str, Any]:
    from layersmith.oci.timestamp import rfc3339
    from layersmith.store.usage import tree_size

    return {
        "Name": mount.name,
        "Id": mount.id,
        "Source": mount.source or "",
        "Copies": len(mount.copies),
        "Size": sum(map(tree_size, mount.copies)),
        "LastUsed": rfc3339(mount.used),
        "InUse": store.mounts.in_use(mount),
    }


def _inspect(args: Namespace, store: Store) -> int:
    import json

    if not args.mounts:
        raise UsageError("inspect: which cache mount?", hint="layersmith cache mounts lists them")
    found = []
    for mount in _chosen(args, store):
        directories = []
        for path in mount.copies:
            status = path.stat()
            directories.append(
                {
                    "Path": str(path),
                    "Uid": status.st_uid,
                    "Gid": status.st_gid,
                    "Mode": f"{status.st_mode & 0o7777:04o}",
                    "Files": sum(1 for _ in path.rglob("*")),
                }
            )
        found.append({**_record(store, mount), "Directories": directories})
    print(json.dumps(found, indent=2))
    return 0


def _remove(args: Namespace, store: Store) -> int:
    if bool(args.mounts) == args.all:
        raise UsageError("rm: name cache mounts, or give --all")
    busy = []
    for mount in _chosen(args, store):
        if store.mounts.remove(mount):
            print(mount.id)
        else:
            busy.append(mount.id)
    if busy:
        raise StoreError(f"in use by a step just now: {', '.join(busy)}", hint="wait for the build to end")
    return 0


def _option(text: str | None, flag: str, key: str) -> CacheOption:
    from layersmith.remotecache.options import CacheOption, parse_cache_from, parse_cache_to

    if not text:
        raise UsageError(f"{flag} is missing", hint=f"{flag} FILE.tar, or {flag} type=registry,ref=NAME")
    if "=" not in text:
        return CacheOption("tar", {key: text})
    option = parse_cache_to(text) if key == "dest" else parse_cache_from(text)
    if option.type == "inline":
        raise UsageError(f"{flag} {text!r}: cache mounts can't be in an image")
    return option


def _export(args: Namespace, store: Store) -> int:
    from layersmith.progress import NullProgress
    from layersmith.remotecache.document import CacheDocument
    from layersmith.remotecache.lend import send
    from layersmith.remotecache.mounts import packed

    option = _option(args.to, "--to", "dest")
    mounts = packed(store, _chosen(args, store))
    send(store, option, CacheDocument(mounts=mounts).write(store), NullProgress())
    for mount in mounts:
        print(f"{mount.id}  {size(mount.layer.descriptor.size)}")
    return 0


def _import(args: Namespace, store: Store) -> int:
    from layersmith.progress import NullProgress
    from layersmith.remotecache.borrow import borrowed
    from layersmith.remotecache.mounts import restore

    option = _option(args.source, "--from", "src")
    with borrowed(store, [option], NullProgress(), strict=True) as found:
        wanted = [mount for mount in found.mounts if not args.mounts or mount.id in args.mounts]
        done = restore(store, wanted, NullProgress(), strict=True)
    for mount in done:
        print(mount.id)
    kept = len(wanted) - len(done)
    if kept:
        print(f"{kept} stayed as they are here")
    return 0
