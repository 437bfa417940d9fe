"""What could stand where the cursor is. In: the words of a command line up to the cursor. Out: candidates.

Called by the scripts of `completion` as ``layersmith __complete SHELL WORD…``. The parsers of the commands say what options
there are and which take a value; what kind of value that is, its metavar says. The answer is a line ``files``,
``dirs`` or ``none``, what the shell is to complete by itself, and then a candidate a line: word, tab, explanation.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from layersmith import cli
from layersmith.errors import LayersmithError

Candidate = tuple[str, str]
"""A word, and what it is."""

_SAFE = re.compile(r"[\w@%+=:,./-]+", re.ASCII)
"""What needs no quoting in any shell. Names come from Buildfiles and archives of anybody: nothing else is offered."""

_STAGE = re.compile(r"^[ \t]*FROM[ \t]+(.*?)[ \t]+AS[ \t]+([\w.-]+)[ \t]*$", re.IGNORECASE | re.MULTILINE)
_ARG = re.compile(r"^[ \t]*ARG[ \t]+(\w+)(?:=(\S*))?", re.IGNORECASE | re.MULTILINE)
"""Not the parser's: a file that is being written does not parse yet, and its stages are wanted all the same."""

_FILES = {
    "FILE",
    "PATH",
    "ROOTFS NAME",
    "FILE|DIR|-",
    "FILE|type=TYPE,dest=FILE",
    "type=TYPE,dest=PATH",
    "SOURCE",
}
_FILES |= {"BUILDFILE|DIR|-", "BUILDFILE|DIR|URL|-", "[CONTAINER:]SOURCE", "[CONTAINER:]TARGET"}


def complete(shell: str, words: Sequence[str]) -> str:
    """The answer, for ``shell``, to ``words`` after the program's name; the last is the one with the cursor.

    bash gives its whole line instead, for it breaks words at ``:`` and ``=`` before anybody can say how it should.
    """
    if shell == "bash":
        words = _split(words[0])[1:]
    *before, current = words or [""]
    try:
        mode, found = _candidates(before, current)
    except (LayersmithError, OSError):
        mode, found = "none", []
    chosen = [(word, about) for word, about in found if word.startswith(current) and _SAFE.fullmatch(word)]
    cut = max(current.rfind(":"), current.rfind("=")) + 1 if shell == "bash" else 0
    lines = [f"{word[cut:]}\t{' '.join(about.split())}" for word, about in dict.fromkeys(chosen)]
    return "\n".join([mode, *lines]) + "\n"


def _split(line: str) -> list[str]:
    """The words of a line as a shell would read it so far: quotes may still be open."""
    words = re.findall(r"""(?:[^\s'"\\]|\\.|'[^']*'?|"[^"]*"?)+""", line)
    unquoted = [re.sub(r"""\\(.)|['"]""", r"\1", word) for word in words]
    return [*unquoted, ""] if line[-1:].isspace() else unquoted


def _candidates(before: list[str], current: str) -> tuple[str, Iterable[Candidate]]:
    root, rest = cli.global_options(before)
    if not rest:
        return "none", [*_commands(), ("--root=", "the store"), ("--help", "list the commands")]
    name, words = cli.command_of(rest)
    if name not in cli.COMMANDS:
        seconds = [
            (n.split()[1], c.help) for n, c in cli.COMMANDS.items() if n.split()[0] == name and " " in n
        ]
        return "none", seconds if len(rest) == 1 else []
    if not words and " " not in name and any(known.startswith(f"{name} ") for known in cli.COMMANDS):
        seconds = [(n.split()[1], c.help) for n, c in cli.COMMANDS.items() if n.startswith(f"{name} ")]
    else:
        seconds = []
    parser = cli.command_parser(name, importlib.import_module(f"layersmith.cli.{cli.COMMANDS[name].module}"))
    mode, found = _Line(parser, root, words).candidates(current)
    return mode, [*seconds, *found]


def _commands() -> Iterator[Candidate]:
    for name, command in cli.COMMANDS.items():
        first, _, second = name.partition(" ")
        yield first, "" if second else command.help


class _Line:
    """The words of one command, sorted into options, their values, and arguments."""

    def __init__(self, parser: argparse.ArgumentParser, root: str | None, words: Sequence[str]) -> None:
        self._parser = parser
        self._options = {text: action for action in parser._actions for text in action.option_strings}
        self._positionals = [action for action in parser._actions if not action.option_strings]
        self._pending: argparse.Action | None = None
        self._arguments: list[str] = []
        self._values: dict[str, str] = {} if root is None else {"root": root}
        self._ended = False
        for word in words:
            self._take(word)

    def _take(self, word: str) -> None:
        if self._pending is not None:
            self._values[self._pending.dest] = word
            self._pending = None
        elif word == "--" and not self._ended:
            self._ended = True
        elif word.startswith("-") and word != "-" and not self._ended:
            name, equals, value = word.partition("=")
            action = self._options.get(name) or self._options.get(f"-{word[-1]}" if word[1:2] != "-" else "")
            if action is not None and equals:
                self._values[action.dest] = value
            elif action is not None and action.nargs != 0:
                self._pending = action
        else:
            self._arguments.append(word)

    def candidates(self, current: str) -> tuple[str, Iterable[Candidate]]:
        """What may stand in ``current``'s place."""
        if self._pending is not None:
            return self._of(self._pending, current)
        if current.startswith("-") and not self._ended and not self._in_a_command():
            name, equals, value = current.partition("=")
            if equals and name in self._options:
                mode, found = self._of(self._options[name], value)
                return mode, [(f"{name}={word}", about) for word, about in found]
            return "none", list(self._option_names())
        action = self._positional()
        return ("none", []) if action is None else self._of(action, current)

    def _option_names(self) -> Iterator[Candidate]:
        for action in self._parser._actions:
            if action.help != argparse.SUPPRESS:
                about = (action.help or "").replace("%%", "%")
                yield from ((text, about) for text in action.option_strings if text.startswith("--"))
                if all(not text.startswith("--") for text in action.option_strings):
                    yield from ((text, about) for text in action.option_strings)

    def _in_a_command(self) -> bool:
        action = self._positional()
        return action is not None and action.nargs == argparse.REMAINDER and bool(self._arguments)

    def _positional(self) -> argparse.Action | None:
        """The argument whose turn it is."""
        number = len(self._arguments)
        for action in self._positionals:
            if action.nargs not in (None, "?") or number == 0:
                return action
            number -= 1
        return None

    def _of(self, action: argparse.Action, current: str) -> tuple[str, Iterable[Candidate]]:
        """The values that ``action`` takes."""
        if action.choices is not None:
            return "none", [(str(choice), "") for choice in action.choices]
        metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
        if maker := _VALUES.get(action.dest) or _VALUES.get(metavar):
            return "none", list(maker(self))
        if metavar.startswith("IMAGE"):
            return "none", list(self.images())
        if "CONTAINER" in metavar:
            suffix = ":" if ":" in metavar else ""
            return "files" if suffix else "none", [(n + suffix, about) for n, about in self.containers()]
        if metavar == "DIR":
            return "dirs", []
        if metavar in _FILES or metavar.endswith(("FILE", "DIR")) or "dest=" in metavar or "src=" in metavar:
            return "files", []
        return ("files", []) if action.nargs == argparse.REMAINDER else ("none", [])

    # What is at hand

    def _root(self) -> Path:
        from layersmith.store import default_root

        given = self._values.get("root")
        return default_root() if given is None else Path(given)

    def images(self) -> Iterator[Candidate]:
        """The names in the store; ``:latest`` is left out where one may."""
        from layersmith.store import Store

        if (self._root() / "oci-layout").exists():
            with Store.open(self._root(), create=False) as store:
                for name, descriptor in sorted(store.refs.list(), key=lambda pair: pair[0]):
                    if name:
                        yield name.removesuffix(":latest"), descriptor.digest[7:19]

    def containers(self) -> Iterator[Candidate]:
        """The containers, by name."""
        from layersmith.containers.container import Containers

        for container in Containers(self._root().absolute()).list(lambda _: None):
            yield container.config.name, container.config.image

    def stages(self) -> Iterator[Candidate]:
        """The stages of the Buildfile that the line names, or that is at hand."""
        for base, name in _STAGE.findall(self._buildfile()):
            yield name.lower(), f"FROM {base}"

    def build_args(self) -> Iterator[Candidate]:
        """Its arguments."""
        for name, default in _ARG.findall(self._buildfile()):
            yield f"{name}=", f"default: {default}" if default else ""

    def _buildfile(self) -> str:
        from layersmith.cli.request import find_buildfile

        given = self._values.get("file")
        context = Path(self._arguments[0] if self._arguments else ".")
        path = Path(given) if given else find_buildfile(context)
        if not path.is_file() and (context / path).is_file():
            path = context / path
        with path.open("rb") as file:
            return file.read(1 << 20).decode("utf-8", "replace")


def _platforms(_: _Line) -> Iterator[Candidate]:
    for name in ("amd64", "arm64", "arm/v7", "386", "ppc64le", "riscv64", "s390x"):
        yield f"linux/{name}", "this machine's" if os.uname().machine == name else ""


_VALUES: dict[str, Callable[[_Line], Iterator[Candidate]]] = {
    "STAGE": _Line.stages,
    "build_arg": _Line.build_args,
    "NAME[:TAG]": _Line.images,
    "OS/ARCH": _platforms,
    "OS/ARCH[,…]": _platforms,
}
"""By dest or metavar."""
