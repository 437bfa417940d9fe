"""The containers in the store: ``ps``, ``logs``, ``stop``, ``kill``, ``wait``, ``rm``."""

from __future__ import annotations

import re
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layersmith.cli.errors import show as show_error
from layersmith.errors import LayersmithError, NotFoundError, UsageError
from layersmith.oci.timestamp import rfc3339

if TYPE_CHECKING:
    from layersmith.cli.listing import Record
    from layersmith.containers.container import Container, Containers
    from layersmith.containers.status import Status

PS_EXAMPLES = """\
examples:
  layersmith ps                                     what is running
  layersmith ps -a --format '{{.Names}} {{.State}} {{.ExitCode}}'
  layersmith rm $(layersmith ps -aq --filter status=exited)
"""


def root_of(args: Namespace) -> Path:
    """The store's root, which need not be opened to read what lies in containers/."""
    from layersmith.store import default_root

    root = (default_root() if args.root is None else Path(args.root)).absolute()
    args.root = str(root)  # joining a container's mount namespace changes the working directory
    return root


def containers_of(args: Namespace) -> Containers:
    from layersmith.containers.container import Containers

    return Containers(root_of(args))


def names_argument(parser: ArgumentParser) -> None:
    parser.add_argument(
        "containers", nargs="+", metavar="CONTAINER", help="a name, or the beginning of an id"
    )


def each(names: Sequence[str], act: Callable[[str], object]) -> int:
    """``act`` on all ``names``, whatever becomes of the others; the status of the first failure."""
    status = 0
    for name in names:
        try:
            act(name)
        except LayersmithError as error:
            show_error(error)
            status = status or error.exit_code
    return status


# ps


def ps_arguments(parser: ArgumentParser) -> None:
    from layersmith.cli.listing import listing_arguments

    parser.add_argument("-a", "--all", action="store_true", help="those that do not run, too")
    parser.add_argument("-n", "--last", type=int, metavar="N", help="the newest N, running or not")
    parser.add_argument("-l", "--latest", action="store_true", help="the newest one, running or not")
    parser.add_argument(
        "--filter",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="status=created|running|exited, name=TEXT, id=PREFIX, ancestor=IMAGE, label=NAME[=VALUE], exited=STATUS",
    )
    listing_arguments(parser, quiet="ids")


def ps(args: Namespace) -> int:
    """List the containers."""
    from layersmith.cli.listing import Column, show
    from layersmith.cli.table import ago, cut

    most = 1 if args.latest else args.last
    everything = args.all or most is not None or any(text.startswith("status=") for text in args.filter)
    filters = [_filter(text) for text in args.filter]
    found = []
    for container in containers_of(args).list(show_error):
        status = container.status()
        if everything or status.state == "running":
            record = _record(container, status, whole=args.no_trunc)
            if all(matches(record) for matches in filters):
                found.append(record)
    columns = (
        Column("CONTAINER ID", lambda r: r["ID"]),
        Column("IMAGE", lambda r: r["Image"]),
        Column("COMMAND", lambda r: r["Command"] if args.no_trunc else cut(r["Command"], 22)),
        Column("CREATED", lambda r: ago(r["CreatedAt"])),
        Column("STATUS", lambda r: r["Status"]),
        Column("NAMES", lambda r: r["Names"]),
    )
    show(args, found[:most], columns, quiet="ID")
    return 0


def _record(container: Container, status: Status, *, whole: bool) -> dict[str, object]:
    import shlex

    config = container.config
    return {
        "ID": config.id if whole else config.id[:12],
        "Names": config.name,
        "Image": config.image,
        "Command": shlex.join(config.process.args),
        "CreatedAt": rfc3339(config.created),
        "Status": describe(status),
        "State": status.state,
        "ExitCode": status.code,
        "Error": status.error,
        "Pid": status.pid,
        "Labels": dict(config.labels),
    }


def describe(status: Status) -> str:
    """``Up 5 minutes``, ``Exited (0) 2 hours ago``, ``Created``."""
    from layersmith.cli.table import ago

    since = ago(rfc3339(status.at))
    if status.state == "running":
        return "Up " + ("less than a second" if since == "just now" else since.removesuffix(" ago"))
    if status.state == "exited":
        return f"Exited ({status.code}) {since}"
    return "Created"


def _filter(text: str) -> Callable[[Record], bool]:
    key, _, value = text.partition("=")
    if key == "status":
        return lambda record: record["State"] == value
    if key == "name":
        return lambda record: value in record["Names"]
    if key == "id":
        return lambda record: value.startswith(record["ID"]) or record["ID"].startswith(value)
    if key == "ancestor":
        return lambda record: value in (record["Image"], record["Image"].removesuffix(":latest"))
    if key == "exited":
        return lambda record: record["State"] == "exited" and str(record["ExitCode"]) == value
    if key == "label":
        name, separator, wanted = value.partition("=")
        return lambda record: name in record["Labels"] and (not separator or record["Labels"][name] == wanted)
    raise UsageError(
        f"unknown filter {text!r}", hint="there are status, name, id, ancestor, label and exited"
    )


# logs


LOGS_EXAMPLES = """\
examples:
  layersmith logs web                  what it wrote, to where it wrote it: 2>/dev/null leaves standard output
  layersmith logs -f --tail 20 web     the last lines, and what comes
  layersmith logs -t --since 10m web   of the last ten minutes, each with its time
  layersmith logs web:1.2 4            what step 4 of the last build of an image wrote, all of it
"""


def logs_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("-f", "--follow", action="store_true", help="go on until the container or the build ends")
    add("-t", "--timestamps", action="store_true", help="put the time before each line")
    add("-n", "--tail", default="all", metavar="N", help="only the last N lines")
    add("--since", default="", metavar="TIME", help="only what is newer: 2026-01-31T12:00:00, or 10m for ago")
    add("container", metavar="CONTAINER|BUILD", help="a container, else a build: see `layersmith builds`")
    add("step", nargs="?", metavar="STEP", help="of a build: the number of one step")


def logs(args: Namespace) -> int:
    """Print what a container, or a build's steps, wrote."""
    from layersmith.cli.builds import build_called, builds_of, emit_lines, log_lines
    from layersmith.containers.container import is_locked
    from layersmith.store.log import read_log

    if args.tail != "all" and not args.tail.isdecimal():
        raise UsageError(f"--tail {args.tail!r} is neither a number nor all")
    limits: dict[str, Any] = {
        "tail": None if args.tail == "all" else int(args.tail),
        "since": _since(args.since),
    }
    try:
        container = containers_of(args).find(args.container)
    except NotFoundError:
        build = build_called(args, args.container)
        if build is None:
            raise
        follow = (lambda: builds_of(args).is_running(build.id)) if args.follow else None
        lines = log_lines(args, build, **limits, follow=follow)
    else:
        if not container.config.log:
            raise UsageError(
                f"container {container.name} has no log",
                hint="it was run with --log-driver none, or with --rm in the foreground",
            )
        follow = (lambda: is_locked(container.directory)) if args.follow else None
        lines = read_log(container.log, **limits, follow=follow)
    emit_lines(lines, timestamps=args.timestamps, flush=args.follow)
    return 0


def _since(text: str) -> str:
    if not text:
        return ""
    from layersmith.buildfile.values import parse_duration
    from layersmith.cli.table import parse_time
    from layersmith.store.log import timestamp

    moment = parse_time(text)
    if moment is not None:
        return timestamp(int(moment.timestamp() * 1_000_000_000))
    if re.fullmatch(r"\d{9,}", text):
        return timestamp(int(text) * 1_000_000_000)
    try:
        return timestamp(time.time_ns() - parse_duration(text))
    except ValueError:
        raise UsageError(
            f"--since {text!r} is no time", hint="such as 2026-01-31T12:00:00Z, or 10m for ten minutes ago"
        ) from None


# stop, kill, wait, rm


STOP_EXAMPLES = """\
examples:
  layersmith stop web              its stop signal (TERM), and after ten seconds KILL
  layersmith stop -t 60 web db     a minute for each
  layersmith stop $(layersmith ps -q)
"""


def stop_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "-t", "--time", type=float, metavar="SECONDS", help="how long to wait before killing (-1: for ever)"
    )
    names_argument(parser)


def stop(args: Namespace) -> int:
    """Ask containers to end, and then make them."""
    from layersmith.containers import control

    containers = containers_of(args)

    def one(name: str) -> None:
        control.stop(containers.find(name), args.time)
        print(name)

    return each(args.containers, one)


KILL_EXAMPLES = """\
examples:
  layersmith kill web              KILL, which nothing survives
  layersmith kill -s HUP web       any other signal: often "read your configuration again"
"""


def kill_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("-s", "--signal", default="KILL", metavar="SIGNAL", help="which one (default: KILL)")
    names_argument(parser)


def kill(args: Namespace) -> int:
    """Send a signal to containers."""
    from layersmith.containers import control
    from layersmith.containers.options import signal_number

    containers = containers_of(args)
    number = signal_number(args.signal)

    def one(name: str) -> None:
        control.send(containers.find(name), number)
        print(name)

    return each(args.containers, one)


WAIT_EXAMPLES = """\
examples:
  layersmith wait job              until it has ended; prints its exit status
  layersmith run -d --name job busybox sleep 5 && layersmith wait job
"""


def wait_arguments(parser: ArgumentParser) -> None:
    names_argument(parser)


def wait(args: Namespace) -> int:
    """Wait until containers have ended, and print their statuses."""
    containers = containers_of(args)
    return each(args.containers, lambda name: print(containers.find(name).wait().code, flush=True))


RM_EXAMPLES = """\
examples:
  layersmith rm job                what has ended
  layersmith rm -f web             what runs, too
  layersmith rm $(layersmith ps -aq --filter status=exited)
"""


def rm_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("-f", "--force", action="store_true", help="kill what runs; ignore what is not there")
    parser.add_argument("-v", "--volumes", action="store_true", help="(for docker's sake: there are none)")
    names_argument(parser)


def rm(args: Namespace) -> int:
    """Remove containers, with all that they changed and wrote."""
    from layersmith.containers import control
    from layersmith.errors import NotFoundError

    containers = containers_of(args)
    found: dict[str, Container] = {}

    def find(name: str) -> None:
        try:
            container = containers.find(name)
            if args.force:
                # Before there is a user namespace: from there the processes would be another user's.
                control.kill(container)
            found.setdefault(name, container)
        except NotFoundError:
            if not args.force:
                raise

    status = each(args.containers, find)
    if not found:
        return status
    from layersmith.cli.stores import open_store

    with open_store(args, owners=True) as store:

        def one(name: str) -> None:
            container = found[name]
            try:
                with containers.supervise(container):
                    containers.remove(container, store.trash)
            except NotFoundError:
                if not container.config.auto_remove:
                    raise
            print(name)

        return each(tuple(found), one) or status
