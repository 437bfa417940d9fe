"""``layersmith man``: manual pages, made of the same parsers as ``--help``. In: a command. Out: man(7) source.

A command rather than a step of the build: a wheel has no place for manual pages, and this way they are those of the version
that is installed.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from pathlib import Path

from layersmith import __version__, cli

MAN_EXAMPLES = """\
examples:
  layersmith man build | man -l -                  read the page of build
  layersmith man --dir ~/.local/share/man/man1     write all of them, for `man layersmith-build`
"""

ENVIRONMENT = (
    ("LAYERSMITH_ROOT", "the store, where --root does not say"),
    ("SOURCE_DATE_EPOCH", "seconds since 1970: newer times in images are lowered to it"),
    ("BUILDKIT_PROGRESS", "how build shows what goes on, where --progress does not say"),
    ("REGISTRY_AUTH_FILE, DOCKER_CONFIG", "where the logins to registries are"),
    ("NO_COLOR, FORCE_COLOR", "whether the live view has colours"),
)
FILES = (
    ("/var/lib/layersmith", "root's store"),
    ("~/.local/share/layersmith", "anybody else's ($XDG_DATA_HOME)"),
    ("Buildfile, Dockerfile, Containerfile", "what build looks for, in this order"),
    (".dockerignore", "what of the context is left out"),
)


def man_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "page", nargs="*", metavar="COMMAND", help="of this command (default: of layersmith itself)"
    )
    parser.add_argument("--dir", metavar="DIR", help="write all pages into this directory")


def man(args: Namespace) -> int:
    """Print or write pages."""
    from layersmith.errors import UsageError

    name = " ".join(args.page)
    if args.dir is None:
        if name and name not in cli.COMMANDS:
            raise UsageError(f"there is no command {name!r}", hint="`layersmith --help` lists them")
        sys.stdout.write(page(name))
        return 0
    directory = Path(args.dir)
    directory.mkdir(parents=True, exist_ok=True)
    for each in ("", *cli.COMMANDS):
        (directory / f"{_title(each)}.1").write_text(page(each))
    return 0


def page(name: str) -> str:
    """The page of the command ``name``, or with ``""`` of the program."""
    title, version = _quoted(_title(name).upper()), _quoted(f"layersmith {__version__}")
    lines = [f'.TH {title} 1 "{_date()}" {version} "User commands"']
    lines += _overview() if not name else _command(name)
    lines += _section("EXIT STATUS", _tagged(cli.EXIT_STATUSES))
    lines += _section("ENVIRONMENT", _tagged(ENVIRONMENT))
    lines += _section("FILES", _tagged(FILES))
    others = sorted({_title(other) for other in ("", *cli.COMMANDS)} - {_title(name)})
    related = others if not name else ["layersmith"]
    lines += _section("SEE ALSO", [", ".join(rf"\fB{_text(other)}\fR(1)" for other in related)])
    return "\n".join(lines) + "\n"


def _date() -> str:
    """Of the installed program, or SOURCE_DATE_EPOCH."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    seconds = int(epoch) if epoch.isdecimal() else Path(cli.__file__).stat().st_mtime
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _overview() -> Iterator[str]:
    yield from _section("NAME", [r"layersmith \- build container images without a daemon"])
    yield from _section("SYNOPSIS", [r"\fBlayersmith\fR [\fB\-\-root\fR \fIDIR\fR] \fICOMMAND\fR ..."])
    about = "A Dockerfile becomes an OCI image: no daemon, and no root where the kernel allows it. Each command has a page of its own."
    yield from _section("DESCRIPTION", [about])
    for group in dict.fromkeys(command.group for command in cli.COMMANDS.values()):
        members = [(name, c.help) for name, c in cli.COMMANDS.items() if c.group == group]
        yield from _section(f"{group.upper()} COMMANDS", _tagged(members))


def _command(name: str) -> Iterator[str]:
    parser = cli.command_parser(name, importlib.import_module(f"layersmith.cli.{cli.COMMANDS[name].module}"))
    about = cli.COMMANDS[name].help
    yield from _section("NAME", [rf"{_text(_title(name))} \- {_text(about[0].lower() + about[1:])}"])
    usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
    yield from _section("SYNOPSIS", [_text(usage)])
    yield from _section("DESCRIPTION", [_text(parser.description or "")])
    shown = [action for action in parser._actions if action.help != argparse.SUPPRESS]
    yield from _section("ARGUMENTS", _actions(a for a in shown if not a.option_strings))
    yield from _section("OPTIONS", _actions(a for a in shown if a.option_strings))
    title, _, examples = (parser.epilog or "").partition("\n")
    commands, *rest = examples.split("\n\n")
    if title and commands:
        yield from _section("EXAMPLES", [".nf", *map(_text, commands.splitlines()), ".fi"])
        yield from _section("NOTES", [_text(paragraph.strip()) for paragraph in rest if paragraph.strip()])


def _actions(actions: Iterable[argparse.Action]) -> Iterator[str]:
    for action in actions:
        value = action.metavar or (
            "{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.dest.upper()
        )
        shown = rf"\fI{_text(str(value))}\fR"
        if not action.option_strings:
            tag = shown
        elif action.nargs == 0:
            tag = ", ".join(rf"\fB{_text(option)}\fR" for option in action.option_strings)
        else:
            tag = ", ".join(rf"\fB{_text(option)}\fR {shown}" for option in action.option_strings)
        about = (action.help or "").replace("%%", "%")
        yield from (".TP", tag, _text(about) or r"\&")


def _tagged(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    for tag, about in pairs:
        yield from (".TP", rf"\fB{_text(tag)}\fR", _text(about))


def _section(title: str, lines: Iterable[str]) -> list[str]:
    found = list(lines)
    return [f".SH {title}", *found] if found else []


def _title(name: str) -> str:
    return f"layersmith-{name.replace(' ', '-')}" if name else "layersmith"


def _quoted(text: str) -> str:
    return '"' + _text(text).replace('"', r"\(dq") + '"'


def _text(text: str) -> str:
    """``text`` as roff shows it unchanged: hyphens that can be copied, and no line that looks like a request."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-").replace("`", r"\(ga").replace("~", r"\(ti")
    escaped = escaped.replace("^", r"\(ha").replace("'", r"\(aq")
    escaped = re.sub(r"[^\x00-\x7f]", lambda match: f"\\[u{ord(match[0]):04X}]", escaped)
    return re.sub(r"(?m)^(?=[.'])", r"\\&", escaped)
