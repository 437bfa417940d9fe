"""The store's disk: ``prune``, ``df``, ``fsck``."""

from __future__ import annotations

import re
import sys
import time
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from layersmith.cli.listing import Column, format_argument, listing_arguments, print_records, show
from layersmith.cli.stores import open_store
from layersmith.cli.table import parse_time, printable, size
from layersmith.errors import StoreError, UsageError

if TYPE_CHECKING:
    from layersmith.store import Snapshot

# prune

PRUNE_EXAMPLES = """\
examples:
  layersmith prune                          what no image, container and cache record needs
  layersmith prune --dry-run                only say what would go
  layersmith prune --until 168h             and cache records that were not used for a week
  layersmith prune --keep-storage 10GB      and as many of the longest unused as it takes
  layersmith prune --all                    and all cache records and mounts: the next build runs every step

By itself, after builds, with this in /etc/layersmith/config.yaml or ~/.config/layersmith/config.yaml:

  gc:
    keep: 20GB        or 10%, of the file system; the longest unused goes first
"""


def prune_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("-a", "--all", action="store_true", help="cache records and cache mounts, too")
    add("--until", metavar="AGE|TIME", help="spare what was used later: 24h, 7d, or an RFC 3339 time")
    add("--keep-storage", metavar="SIZE", help="drop cache records until the store is no larger: 10GB")
    add(
        "--filter",
        action="append",
        default=[],
        metavar="until=AGE",
        help="the same as --until",
    )
    add("--dry-run", action="store_true", help="remove nothing, only say what would go")
    add("-v", "--verbose", action="store_true", help="name everything")
    add("-f", "--force", action="store_true", help="(for docker's sake: nobody is asked anyway)")
    format_argument(parser)


def prune(args: Namespace) -> int:
    """Delete what nothing needs any more."""
    from layersmith.containers.container import Containers
    from layersmith.recall import forget
    from layersmith.store.gc import prune as prune_store

    until = args.until
    for text in args.filter:
        key, _, until = text.partition("=")
        if key != "until" or not until:
            raise UsageError(f"invalid --filter {text!r}", hint="there is until=AGE")
    with open_store(args, owners=True) as store:
        report = prune_store(
            store,
            all=args.all,
            until=None if until is None else moment(until),
            keep_storage=None if args.keep_storage is None else byte_count(args.keep_storage),
            dry_run=args.dry_run,
            keep=Containers(store.root).images(),
        )
        if not args.dry_run:
            forget(store)
    if args.format is not None:
        print_records(
            args.format,
            ({"Kind": item.kind, "Name": item.name, "Size": item.size} for item in report.removed),
        )
        return 0
    if args.verbose or args.dry_run:
        for item in report.removed:
            print(f"{item.kind:<9} {item.name}  {size(item.size)}")
    verb = "would free" if args.dry_run else "freed"
    print(f"{verb} {size(report.freed)}")
    return 0


_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:[wdhms]))+")
_SECONDS = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}


def moment(text: str) -> float:
    """``24h`` (that long ago), or a time, in seconds since the epoch."""
    if _DURATION.fullmatch(text):
        age = sum(float(n) * _SECONDS[unit] for n, unit in re.findall(r"([\d.]+)([wdhms])", text))
        return time.time() - age
    found = parse_time(text)
    if found is None:
        raise UsageError(
            f"invalid age {text!r}", hint="write 24h, 7d, 1h30m, or a time: 2024-05-01T12:00:00Z"
        )
    return found.timestamp()


def byte_count(text: str) -> int:
    """``10GB`` in bytes: docker's powers of 1000, and those of 1024 with an ``i``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", text.strip().lower())
    if match is None:
        raise UsageError(f"invalid size {text!r}", hint="write a number with kB, MB, GB or TB: 10GB")
    base = 1024 if match[3] else 1000
    return int(float(match[1]) * base ** " kmgt".index(match[2] or " "))


# df

DF_EXAMPLES = """\
examples:
  layersmith df
  layersmith df -v
  layersmith df --format json

Images and cache are what names and cache records need of the blobs and snapshots below; SHARED is what more than one
image, or images and cache, need together, and UNIQUE what removing this alone would free. Of blobs and snapshots,
UNIQUE is what nothing needs. Snapshots are unpacked layers, made again from their blobs when they are needed; logs are
the recent builds with what failed steps left; records are the database. The total counts each byte once.
"""


def df_arguments(parser: ArgumentParser) -> None:
    listing_arguments(parser, quiet="the kinds", trunc=False)
    parser.add_argument("-v", "--verbose", action="store_true", help="image by image")


def df(args: Namespace) -> int:
    """Say what takes how much space."""
    from layersmith.store.usage import disk_usage, image_usage, need_usage

    with open_store(args, owners=True) as store:
        if args.verbose:
            usage = image_usage(store)
        else:
            usage = need_usage(store) | disk_usage(store)
    records: list[dict[str, Any]] = [
        {
            "Type": kind,
            "Count": found.count,
            "Size": found.size,
            "Shared": found.shared,
            "Unique": found.size - found.shared,
        }
        for kind, found in usage.items()
    ]
    if args.format is None and not args.quiet and not args.verbose:
        disk = [found for found in usage.values() if found.on_disk]
        total = sum(found.size for found in disk)
        count = sum(found.count for found in disk)
        records.append({"Type": "total", "Count": count, "Size": total, "Shared": 0, "Unique": total})
    columns = (
        Column("IMAGE" if args.verbose else "TYPE", lambda record: record["Type"]),
        Column("LAYERS" if args.verbose else "COUNT", lambda record: str(record["Count"]), right=True),
        Column("SIZE", lambda record: size(record["Size"]), right=True),
        Column("SHARED", lambda record: size(record["Shared"]), right=True),
        Column("UNIQUE", lambda record: size(record["Unique"]), right=True),
    )
    show(args, records, columns, quiet="Type")
    return 0


# fsck

FSCK_EXAMPLES = """\
examples:
  layersmith fsck               read every blob, image, cache record and snapshot; status 7 if anything is wrong
  layersmith fsck --repair      drop what is broken, and what relies on it
"""


def fsck_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--repair", action="store_true", help="drop what is broken, and what relies on it")
    parser.add_argument("-q", "--quiet", action="store_true", help="say nothing where nothing is wrong")
    format_argument(parser)


def fsck(args: Namespace) -> int:
    """Verify the whole store."""
    from layersmith.layer.verify import snapshot_problem
    from layersmith.store.fsck import fsck as check

    def check_snapshot(snapshot: Snapshot) -> str:
        return snapshot_problem(store, snapshot.key, snapshot.path)

    with open_store(args, owners=True) as store:
        problems = check(store, repair=args.repair, check_snapshot=check_snapshot)
    if args.format is not None:
        print_records(
            args.format,
            (
                {"Kind": found.kind, "Name": found.name, "Message": found.message, "Repaired": found.repaired}
                for found in problems
            ),
        )
    for problem in problems if args.format is None else ():
        done = " (repaired)" if problem.repaired else ""
        print(f"{problem.kind} {printable(problem.name)}: {printable(problem.message)}{done}")
    if not problems and not args.quiet and args.format is None:
        print("nothing is wrong")
    left = [problem for problem in problems if not problem.repaired]
    if left and not args.repair:
        print("hint: `layersmith fsck --repair` drops what is broken", file=sys.stderr)
    return StoreError.exit_code if left else 0
