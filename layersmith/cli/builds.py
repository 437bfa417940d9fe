"""What was built here: ``builds``, ``builds inspect``, ``builds rm``, ``explain``, and a build's part of ``logs``."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layersmith.cli.errors import show as show_error
from layersmith.errors import LayersmithError, NotFoundError, StoreError, UsageError
from layersmith.oci.timestamp import rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterable

    from layersmith.cli.listing import Record
    from layersmith.store.build_record import Build, BuildStep
    from layersmith.store.builds import Builds
    from layersmith.store.log import LogLine

BUILD_HELP = "the beginning of an id, an image's name, or ^N for the N-th before the last (default: the last)"

BUILDS_EXAMPLES = """\
examples:
  layersmith builds                                  the builds of this store, the newest first
  layersmith builds --format '{{.ID}} {{.Result}}'   for a script
  layersmith builds inspect web:1.2                  all that is known of the last build of an image
"""


def builds_of(args: Namespace) -> Builds:
    """The builds of ``--root``; the store need not be opened to read what lies there."""
    from layersmith.store import default_root
    from layersmith.store.builds import Builds

    root = (default_root() if args.root is None else Path(args.root)).absolute()
    if not (root / "oci-layout").exists():
        raise StoreError(f"there is no store at {root}", hint="build, pull or import an image first")

    def refuse(path: Path) -> None:
        raise AssertionError(f"{path} is removed through the store")

    return Builds(root / "builds", refuse)


def builds_arguments(parser: ArgumentParser) -> None:
    from layersmith.cli.listing import listing_arguments

    parser.add_argument("-n", "--last", type=int, metavar="N", help="only the newest N")
    listing_arguments(parser, quiet="ids")


def builds(args: Namespace) -> int:
    """List the builds."""
    from layersmith.cli.listing import Column, show
    from layersmith.cli.table import ago
    from layersmith.cli.units import human_seconds

    records = [_record(build) for build in builds_of(args).recent(args.last)]
    columns = (
        Column("BUILD", lambda r: r["ID"]),
        Column("NAME", lambda r: ", ".join(r["Names"]) or r["Buildfile"]),
        Column("STARTED", lambda r: ago(r["StartedAt"])),
        Column("TOOK", lambda r: "" if r["Seconds"] is None else human_seconds(r["Seconds"]), right=True),
        Column("RESULT", lambda r: r["Result"]),
        Column("STEPS", _counts),
    )
    show(args, records, columns, quiet="ID")
    return 0


def _record(build: Build) -> Record:
    outcomes = [step.outcome for step in build.steps]
    return {
        "ID": build.id,
        "Names": list(build.names),
        "Buildfile": build.buildfile,
        "Context": build.context,
        "Target": build.target,
        "Platforms": list(build.platforms),
        "StartedAt": rfc3339(build.started),
        "Seconds": None if build.finished is None else round(build.finished - build.started, 3),
        "Result": build.result,
        "Image": build.image,
        "Error": build.error,
        "Steps": {word: outcomes.count(word) for word in dict.fromkeys(outcomes) if word != "base"},
    }


def _counts(record: Record) -> str:
    return ", ".join(f"{count} {word}" for word, count in record["Steps"].items())


# inspect, rm


BUILDS_INSPECT_EXAMPLES = """\
examples:
  layersmith builds inspect                         the last build: its steps, keys, times and layers
  layersmith builds inspect --format '{{.result}}' web:1.2
"""


def builds_inspect_arguments(parser: ArgumentParser) -> None:
    from layersmith.cli.format import HELP

    parser.add_argument("build", nargs="?", default="", metavar="BUILD", help=BUILD_HELP)
    parser.add_argument("--format", metavar="FORMAT", help=HELP)


def builds_inspect(args: Namespace) -> int:
    """Print a build's record."""
    import json

    from layersmith.cli.format import formatter
    from layersmith.cli.listing import emit

    record = builds_of(args).find(args.build).to_json()
    text = formatter(args.format)(record) if args.format else json.dumps(record, indent=2, ensure_ascii=False)
    emit(text)
    return 0


BUILDS_RM_EXAMPLES = """\
examples:
  layersmith builds rm web:1.2              forget a build: its record, logs and failed step
  layersmith builds rm $(layersmith builds -q)
"""


def builds_rm_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("builds", nargs="+", metavar="BUILD", help=BUILD_HELP)


def builds_rm(args: Namespace) -> int:
    """Forget builds; images and cache stay."""
    from layersmith.cli.stores import open_store

    status = 0
    with open_store(args, owners=True) as store:
        for reference in args.builds:
            try:
                build = store.builds.find(reference).id
                if not store.builds.remove(build):
                    raise UsageError(f"build {build} still runs", hint="stop it first")
                print(build)
            except LayersmithError as error:
                show_error(error)
                status = status or error.exit_code
    return status


# logs


def build_called(args: Namespace, reference: str) -> Build | None:
    """The build that ``reference`` means, if any."""
    try:
        return builds_of(args).find(reference)
    except (NotFoundError, StoreError):
        return None


def step_called(build: Build, text: str) -> BuildStep:
    """The step that ``3`` or ``#3`` means. Raises UsageError, NotFoundError."""
    number = text.removeprefix("#")
    if not number.isdecimal():
        raise UsageError(
            f"{text!r} is no number of a step", hint=f"`layersmith builds inspect {build.id}` lists them"
        )
    return build.step(int(number))


def log_lines(args: Namespace, build: Build, **limits: Any) -> Iterable[LogLine]:
    """What the steps of ``build`` wrote, or the one that ``args.step`` means; each of several after its name."""
    from layersmith.store.log import STDOUT, LogLine, read_log

    builds = builds_of(args)
    if args.step is not None:
        step = step_called(build, args.step)
        yield from read_log(builds.log(build.id, step.number), **limits)
        return
    for step in build.steps:
        if step.log:
            yield LogLine("", STDOUT, f"#{step.number} {step.name}\n".encode("utf-8", "surrogateescape"))
            yield from read_log(builds.log(build.id, step.number), **limits)


# explain


EXPLAIN_EXAMPLES = """\
examples:
  layersmith explain                   why each step of the last build ran
  layersmith explain web:1.2 4         one step of the last build of an image
  layersmith explain ^1 --format json  of the build before the last
  layersmith build --explain .         as it goes
"""


def explain_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("build", nargs="?", default="", metavar="BUILD", help=BUILD_HELP)
    parser.add_argument("step", nargs="?", metavar="STEP", help="its number, as progress shows it (#4)")
    parser.add_argument("--format", metavar="FORMAT", help="json, or a Go template; a line for each step")


def explain(args: Namespace) -> int:
    """Say why the steps of a build ran."""
    from layersmith.cli.format import formatter
    from layersmith.cli.listing import emit

    builds = builds_of(args)
    reference = args.build
    if args.step is None and reference.removeprefix("#").isdecimal():
        reference, args.step = "", reference
    build = builds.find(reference)
    steps = [step for step in build.steps if step.outcome != "base"]
    if args.step is not None:
        steps = [step_called(build, args.step)]
    origins = _origins(builds, build)
    if args.format:
        write = formatter(args.format)
        for step in steps:
            emit(write(_explained(build, step, origins)))
        return 0
    emit(f"build {build.id}{''.join(f' {name}' for name in build.names)}: {build.result}")
    for step in steps:
        emit(f"#{step.number} {step.name.partition(chr(10))[0]}")
        emit(f"   {_verdict(step, origins)}")
        for cause in step.why:
            emit(f"   - {cause.text()}")
    return 0


def _origins(builds: Builds, build: Build) -> dict[str, str]:
    """Where the layers of hits were made: ``BUILD/STEP`` by key, of what earlier builds ran."""
    wanted = {step.key for step in build.steps if step.outcome == "hit"}
    found: dict[str, str] = {}
    for earlier in builds.recent() if wanted else ():
        if earlier.started < build.started:
            for step in earlier.steps:
                if step.outcome == "ran" and step.key in wanted:
                    found.setdefault(step.key, f"{earlier.id}/{step.number}")
    return found


def _verdict(step: BuildStep, origins: dict[str, str]) -> str:
    against = f", compared with {step.against}" if step.against else ""
    match step.outcome:
        case "hit":
            return f"hit: made by {origins[step.key]}" if step.key in origins else "hit: the cache had it"
        case "ran":
            same = "; it made the same files as before, whose layer stays" if step.reused else ""
            return f"ran{against}{same}"
        case "failed":
            return f"failed{against}"
        case other:
            return other


def _explained(build: Build, step: BuildStep, origins: dict[str, str]) -> dict[str, object]:
    return {
        "build": build.id,
        "step": step.number,
        "name": step.name,
        "stage": step.stage,
        "source": step.source,
        "outcome": step.outcome,
        "key": step.key,
        "against": step.against or origins.get(step.key, ""),
        "reused": step.reused,
        "why": [{**cause.to_json(), "text": cause.text()} for cause in step.why],
    }


def emit_lines(lines: Iterable[LogLine], *, timestamps: bool, flush: bool) -> None:
    """Each line to the stream that it was written to, as it was."""
    from layersmith.store.log import STDOUT

    started = {1: True, 2: True}
    for line in lines:
        stream = sys.stdout.buffer if line.stream == STDOUT else sys.stderr.buffer
        if timestamps and line.time and started[line.stream]:
            stream.write(line.time.encode() + b" ")
        started[line.stream] = line.data.endswith(b"\n")
        stream.write(line.data)
        if flush or stream is sys.stderr.buffer:
            stream.flush()
    sys.stdout.flush()
