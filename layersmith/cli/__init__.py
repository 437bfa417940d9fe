"""The command line: argv -> one call -> print. The only place with argparse, exit codes and printing.

`COMMANDS` names every command with its module, which is imported only when that command runs. A command ``foo-bar``,
or one of two words, ``foo bar``, is two functions of its module: ``foo_bar_arguments(parser)`` and ``foo_bar(args) -> int``.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from layersmith.dataclass import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType


@dataclass(frozen=True, slots=True)
class Command:
    """Where a command is, and what the list of commands says of it."""

    module: str
    group: str
    help: str


COMMANDS = {
    "build": Command("build", "Building", "Build an image from a Buildfile or Dockerfile"),
    "check": Command("language", "Building", "Look for mistakes in a Buildfile"),
    "lock": Command("lock", "Building", "Write down what a Buildfile's names of images and URLs mean today"),
    "verify": Command(
        "verify", "Building", "Build again from nothing, and say whether the image is the same"
    ),
    "fmt": Command("language", "Building", "Write a Buildfile in the canonical style"),
    "builds": Command("builds", "Building", "List what was built here"),
    "builds inspect": Command("builds", "Building", "Print what is known of a build"),
    "builds rm": Command("builds", "Building", "Forget builds, with their logs and what failed steps left"),
    "explain": Command("builds", "Building", "Say why the steps of a build ran"),
    "report": Command("report", "Building", "Write a page that shows what a build did, when and why"),
    "debug": Command("debug", "Building", "Open a shell in what a failed step left"),
    "import": Command(
        "transfer", "Images", "Make an image of a root file system, or of this machine's programs"
    ),
    "load": Command("transfer", "Images", "Take images from an archive or an OCI layout"),
    "export": Command("transfer", "Images", "Write an image to an archive, a directory or standard output"),
    "pull": Command("registry", "Images", "Fetch images from a registry"),
    "push": Command("registry", "Images", "Upload an image to a registry"),
    "login": Command("registry", "Images", "Log in to a registry"),
    "logout": Command("registry", "Images", "Forget the login to a registry"),
    "images": Command("images", "Images", "List the images"),
    "tag": Command("images", "Images", "Give an image further names"),
    "rmi": Command("images", "Images", "Remove images"),
    "manifest create": Command("manifest", "Images", "Make an index of images for several platforms"),
    "manifest add": Command("manifest", "Images", "Add images to an index"),
    "manifest annotate": Command("manifest", "Images", "Change what an index says of an image"),
    "manifest inspect": Command("manifest", "Images", "Print an index, in the store or at a registry"),
    "manifest push": Command("manifest", "Images", "Upload an index and all its images"),
    "manifest remove": Command("manifest", "Images", "Take images out of an index"),
    "manifest rm": Command("manifest", "Images", "Remove indexes"),
    "inspect": Command("layers", "Layers", "Show an image's config, manifest, layers and history"),
    "history": Command("layers", "Layers", "Show how an image came about"),
    "layers": Command("layers", "Layers", "List an image's layers"),
    "diff": Command("diff", "Layers", "List the paths that layers add, change and delete"),
    "explore": Command(
        "explore", "Layers", "Look through the files of an image's layers, and what they waste"
    ),
    "mount": Command("mount", "Layers", "Mount an image's layers, and look at them from a shell"),
    "run": Command("running", "Containers", "Run a command in a new container"),
    "ps": Command("containers", "Containers", "List the containers"),
    "exec": Command("execute", "Containers", "Run a command in a running container"),
    "start": Command("execute", "Containers", "Run containers' commands again, on the files that they left"),
    "logs": Command("containers", "Containers", "Print what a container, or a build's steps, wrote"),
    "stop": Command("containers", "Containers", "Ask containers to end, and then make them"),
    "kill": Command("containers", "Containers", "Send a signal to containers"),
    "wait": Command("containers", "Containers", "Wait until containers have ended, and print their statuses"),
    "rm": Command("containers", "Containers", "Remove containers, with all that they changed and wrote"),
    "cp": Command("container_files", "Containers", "Copy files between a container and this machine"),
    "commit": Command("container_files", "Containers", "Make an image of a container"),
    "cache mounts": Command(
        "cache", "Store", "List, inspect, remove, export and import cache mounts (RUN --mount=type=cache)"
    ),
    "df": Command("housekeeping", "Store", "Show what takes how much space"),
    "prune": Command("housekeeping", "Store", "Delete what nothing needs any more"),
    "fsck": Command("housekeeping", "Store", "Check everything in the store, and repair it"),
    "doctor": Command("doctor", "Store", "Check what of this machine layersmith needs, and say what to do"),
    "completion": Command("completion", "Help", "Print what a shell needs to complete commands"),
    "man": Command("man", "Help", "Print a manual page, or write all of them"),
}

EXIT_STATUSES = (
    ("0", "done"),
    ("1", "failed"),
    ("2", "wrong command line"),
    ("3", "the Buildfile is wrong"),
    ("4", "a step failed"),
    ("5", "no such image, container or build"),
    ("6", "a registry, an archive or a remote file"),
    ("7", "the store: damaged, full, locked, or newer than this program"),
    ("8", "the kernel refused a mount, a namespace or an exec"),
    ("125", "`run`, `exec`: layersmith itself failed"),
    ("126", "`run`, `exec`: the command can't be executed"),
    ("127", "`run`, `exec`: the command was not found"),
    ("130", "stopped by Ctrl-C or SIGTERM"),
    ("141", "whoever read the output went away (`layersmith export web | head`)"),
)
"""What a command ends with; anything else from `run` and `exec` is the status of the command that they ran."""


def run(argv: Sequence[str]) -> int:
    """Run one command; returns the exit status. Errors are printed here and nowhere else."""
    try:
        status = _run(argv)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Whoever reads our output has gone (`| head`); say nothing, and let nothing be flushed to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _run(argv: Sequence[str]) -> int:
    root, rest = global_options(list(argv))
    if not rest or rest[0] in ("-h", "--help", "help"):
        if len(rest) == 1 or not rest:
            print(overview())
            return 0 if rest else 2
        rest = [*rest[1:], "--help"]
    if rest[0] == "__complete":
        from layersmith.cli.complete import complete

        sys.stdout.write(complete(rest[1], rest[2:]))
        return 0
    name, words = command_of(rest)
    if name not in COMMANDS:
        return _unknown(name, words)
    module = importlib.import_module(f"layersmith.cli.{COMMANDS[name].module}")
    args = command_parser(name, module).parse_args(words)
    if args.root is None:
        args.root = root
    return _guarded(command_function(name, module), args)


def command_of(words: list[str]) -> tuple[str, list[str]]:
    """The command that ``words`` begin with, of two words or one, and what follows; or an unknown word."""
    pair = " ".join(words[:2])
    return (pair, words[2:]) if pair in COMMANDS else (words[0], words[1:])


def command_function(name: str, module: ModuleType) -> Callable[[argparse.Namespace], int]:
    """The function of a command; ``import`` is a word of Python's own."""
    return getattr(module, "import_" if name == "import" else _identifier(name))  # type: ignore[no-any-return]


def _identifier(name: str) -> str:
    return name.replace("-", "_").replace(" ", "_")


def global_options(argv: list[str]) -> tuple[str | None, list[str]]:
    """``--root`` may stand before the command, too."""
    if argv and argv[0].startswith("--root="):
        return argv[0].partition("=")[2], argv[1:]
    if len(argv) > 1 and argv[0] == "--root":
        return argv[1], argv[2:]
    return None, argv


def command_parser(name: str, module: ModuleType) -> argparse.ArgumentParser:
    """The parser of a command: of its options, and of its help."""
    function = _identifier(name)
    parser = Parser(
        prog=f"layersmith {name}",
        description=COMMANDS[name].help + ".",
        epilog=getattr(module, f"{function.upper()}_EXAMPLES", None),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    getattr(module, f"{function}_arguments")(parser)
    parser.add_argument(
        "--root", metavar="DIR", help="the store (default: $LAYERSMITH_ROOT, else the user's own)"
    )
    return parser


class Parser(argparse.ArgumentParser):
    """argparse, with a nearest match for a misspelled option, and options anywhere between the arguments.

    Not where the arguments are themselves a command with options (`argparse.REMAINDER`).
    """

    def parse_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        if any(action.nargs == argparse.REMAINDER for action in self._actions):
            return super().parse_args(args, namespace)
        return super().parse_intermixed_args(args, namespace)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        sys.stdout.flush()  # the help, while a broken pipe can still be told from a failure
        super().exit(status, message)

    def error(self, message: str) -> NoReturn:
        if message.startswith("unrecognized arguments:"):
            import difflib

            wrong = message.split()[2].partition("=")[0]
            known = [o for action in self._actions for o in action.option_strings]
            near = difflib.get_close_matches(wrong, known, 1)
            if near:
                message += f" (did you mean {near[0]}?)"
        super().error(message)


def _guarded(command: object, args: argparse.Namespace) -> int:
    """Call ``command(args)``; an error becomes a message and its exit status."""
    from layersmith.errors import Cancelled, LayersmithError

    assert callable(command)
    try:
        status = int(command(args))
        sys.stdout.flush()
        return status
    except LayersmithError as error:
        if not error.told:
            from layersmith.cli.errors import show

            show(error)
        return int(getattr(error, "cli_status", error.exit_code))
    except KeyboardInterrupt:
        print("layersmith: stopped", file=sys.stderr)
        return Cancelled.exit_code
    except BrokenPipeError:
        raise
    except OSError as error:
        from layersmith.cli.errors import show
        from layersmith.store.files import DiskFullError, explained

        full = explained(error, error.filename or "a file")
        if isinstance(full, DiskFullError):
            show(full)
            return full.exit_code
        where = f"{error.filename}: " if error.filename else ""
        show(LayersmithError(f"{where}{error.strerror or error}"))
        return LayersmithError.exit_code


def _unknown(name: str, words: Sequence[str]) -> int:
    import difflib

    inner = {
        command.partition(" ")[2]: c for command, c in COMMANDS.items() if command.startswith(f"{name} ")
    }
    if inner:
        asked = bool(words) and words[0] in ("-h", "--help")
        lines = [
            f"usage: layersmith {name} COMMAND ...",
            "",
            *(f"  {w:<12} {c.help}" for w, c in inner.items()),
        ]
        print("\n".join(lines), file=sys.stdout if asked else sys.stderr)
        return 0 if asked else 2
    near = difflib.get_close_matches(name, COMMANDS, 1)
    hint = f"; did you mean {near[0]}?" if near else "; `layersmith --help` lists them"
    print(f"layersmith: there is no command {name!r}{hint}", file=sys.stderr)
    return 2


def overview() -> str:
    """The text of ``layersmith --help``."""
    lines = ["usage: layersmith [--root DIR] COMMAND ...", "", "Build container images without a daemon."]
    for group in dict.fromkeys(command.group for command in COMMANDS.values()):
        lines += ["", f"{group}:"]
        listed = [(name, c.help) for name, c in COMMANDS.items() if c.group == group]
        width = max(12, *(len(name) for name, _ in listed))
        lines += [f"  {name:<{width}} {help_}" for name, help_ in listed]
    lines += [
        "",
        "`layersmith COMMAND --help` says more; `layersmith --version` prints the version.",
        "",
        "exit status:",
        *(f"  {status:<12} {meaning}" for status, meaning in EXIT_STATUSES),
    ]
    return "\n".join(lines)
