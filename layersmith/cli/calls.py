"""``build --call`` and ``--check``: what is asked of a Buildfile instead of building it. In: flags. Out: text or JSON.

As docker's: ``check`` looks for mistakes, ``targets`` lists the stages, ``outline`` what a target can be given. A comment
right before FROM or ARG that begins with the name of the stage or argument describes it.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layersmith.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from layersmith.buildfile.instructions import Instruction, Stage
    from layersmith.buildfile.parser import Item

METHODS = ("build", "check", "outline", "targets")


def call_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--call",
        default="build",
        metavar="METHOD[,format=json]",
        help="check, outline or targets: say that of the Buildfile; do nothing (default: build)",
    )
    parser.add_argument(
        "--check", action="store_const", dest="call", const="check", help="the same as --call=check"
    )


def called(args: Namespace) -> int | None:
    """Answer ``--call``; the exit status, or None if a build is wanted. ``check`` fails on warnings, too, as docker's does."""
    method, *options = args.call.split(",")
    if method not in METHODS or any(option not in ("format=json", "format=text") for option in options):
        raise UsageError(
            f"invalid --call {args.call!r}", hint=f"write one of {', '.join(METHODS)}, or METHOD,format=json"
        )
    if method == "build":
        return None
    form = "json" if "format=json" in options else "text"
    name = _file(args)
    if method == "check":
        from layersmith.cli.language import check

        return check(
            Namespace(
                files=[name],
                format=form,
                error_on="warning",
                dialect="layersmith",
                build_arg=args.build_arg,
            )
        )
    found = _Outlined(name, args)
    value = found.targets() if method == "targets" else found.outline()
    print(json.dumps(value, indent=2) if form == "json" else _text(method, value))
    return 0


def _file(args: Namespace) -> str:
    """The Buildfile, which must lie on this machine: nothing is fetched for a question."""
    from layersmith.cli.request import local_context
    from layersmith.execute.contexts import is_remote

    if args.file == "-" or (args.context == "-" and not args.file):
        return "-"
    if is_remote(args.context):
        raise UsageError(
            f"--call={args.call} can't look into {args.context}", hint="give it a directory or a Buildfile"
        )
    return str(local_context(Path(args.context), args.file)[1])


class _Outlined:
    """A Buildfile, its stages, and the comments that describe them."""

    def __init__(self, name: str, args: Namespace) -> None:
        from layersmith.buildfile.instructions import Arg, From
        from layersmith.buildfile.parser import parse, source_of, stages, take_apart
        from layersmith.cli.language import read, whole
        from layersmith.cli.request import build_args_of

        text, shown, _ = read(name)
        file = take_apart(source_of(text, shown))
        self.descriptions = {
            (type(item.instruction), described): text
            for item in file.items
            if isinstance(item.instruction, From | Arg)
            for described, text in _descriptions(item)
        }
        buildfile = parse(text, shown)
        self.globals, self.stages = stages(whole(buildfile, Path(args.context), shown) or buildfile)
        self.build_args = build_args_of(args.build_arg)
        self.target: str | None = args.target

    def targets(self) -> dict[str, Any]:
        """All stages; the last is what is built by default."""
        return {
            "targets": [
                {
                    "name": stage.name or "",
                    "default": stage is self.stages[-1],
                    "base": stage.from_.base,
                    "description": self.describe(stage),
                }
                for stage in self.stages
            ]
        }

    def describe(self, stage: Stage) -> str:
        from layersmith.buildfile.instructions import From

        return self.descriptions.get((From, stage.name or ""), "")

    def outline(self) -> dict[str, Any]:
        """The target's arguments, secrets and ssh agents, those of the stages that it needs included."""
        stage = self._stage()
        used = [instruction for needed in self._needed(stage) for instruction in needed.instructions]
        mounts = [dict(mount.fields) for each in used for mount in getattr(each, "mounts", ())]
        return {
            "name": stage.name or "",
            "description": self.describe(stage),
            "args": list(self._arguments([*self.globals, *used])),
            "secrets": _asked(mounts, "secret", lambda fields: fields.get("id") or _last(fields)),
            "ssh": _asked(mounts, "ssh", lambda fields: fields.get("id") or "default"),
        }

    def _stage(self) -> Stage:
        if self.target is None:
            return self.stages[-1]
        for number, stage in enumerate(self.stages):
            if self.target.lower() == stage.name or self.target == str(number):
                return stage
        raise UsageError(f"target stage {self.target!r} could not be found")

    def _needed(self, stage: Stage) -> list[Stage]:
        """``stage`` and all that it is made of, in the file's order; names with variables are not followed."""
        pending, found = [stage], {id(stage)}
        while pending:
            here = pending.pop()
            names = {here.from_.base.lower(), *(name.lower() for name in _sources(here.instructions))}
            for number, other in enumerate(self.stages):
                if id(other) not in found and names & {other.name, str(number)}:
                    found.add(id(other))
                    pending.append(other)
        return [stage for stage in self.stages if id(stage) in found]

    def _arguments(self, instructions: Iterable[Instruction]) -> Iterator[dict[str, str]]:
        from layersmith.buildfile.instructions import Arg

        values: dict[str, str] = {}
        for instruction in instructions:
            if isinstance(instruction, Arg):
                for name, default in instruction.pairs:
                    values[name] = self.build_args.get(name, default or values.get(name, ""))
        for name, value in values.items():
            yield {"name": name, "value": value, "description": self.descriptions.get((Arg, name), "")}


def _descriptions(item: Item) -> Iterator[tuple[str, str]]:
    """(name, description) that the last comment before FROM or ARG gives it."""
    from layersmith.buildfile.checks import described

    names, text = described(item)
    first, _, rest = text.partition(" ")
    for name in (first, first.lower()):
        if name and name in names:
            yield name, rest.strip()
            return


def _sources(instructions: Iterable[Instruction]) -> Iterator[str]:
    """What ``--from`` and ``--mount=from=`` name."""
    for instruction in instructions:
        if name := getattr(instruction, "from_", None):
            yield name
        for mount in getattr(instruction, "mounts", ()):
            if name := dict(mount.fields).get("from"):
                yield name


def _last(fields: dict[str, str | None]) -> str:
    """A secret without an id has its target's file name."""
    target = fields.get("target") or fields.get("dst") or fields.get("destination") or ""
    return target.rpartition("/")[2]


def _asked(
    mounts: list[dict[str, str | None]], kind: str, name: Callable[[dict[str, str | None]], str]
) -> list[dict[str, object]]:
    found: dict[str, bool] = {}
    for fields in mounts:
        if fields.get("type") == kind:
            required = "required" in fields and (fields["required"] or "true").lower() in ("true", "1")
            found[name(fields)] = found.get(name(fields), False) or required
    return [{"name": name, "required": required} for name, required in found.items()]


def _text(method: str, value: dict[str, Any]) -> str:
    from layersmith.cli.table import printable, table

    if method == "targets":
        rows = [
            (f"{each['name']} (default)".strip() if each["default"] else each["name"], each["description"])
            for each in value["targets"]
        ]
        return table(("TARGET", "DESCRIPTION"), rows)
    parts = [f"TARGET:      {printable(value['name'])}"]
    if value["description"]:
        parts.append(f"DESCRIPTION: {printable(value['description'])}")
    if value["args"]:
        given = [(each["name"], each["value"], each["description"]) for each in value["args"]]
        parts += ["", table(("BUILD ARG", "VALUE", "DESCRIPTION"), given)]
    for kind, header in (("secrets", "SECRET"), ("ssh", "SSH")):
        if value[kind]:
            asked = [(each["name"], "true" if each["required"] else "") for each in value[kind]]
            parts += ["", table((header, "REQUIRED"), asked)]
    return "\n".join(parts)
