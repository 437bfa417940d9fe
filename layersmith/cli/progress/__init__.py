"""How a command shows what goes on: ``--progress``. In: events. Out: standard error, and nothing else.

``plain`` prints a line for each line of output, ``live`` repaints a view of what runs (``state`` keeps what it shows,
``view`` lays it out, ``terminal`` paints), ``stream`` writes the events as JSON, ``summary`` is how each ends.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from layersmith.cli.progress.plain import PlainProgress, QuietProgress
from layersmith.errors import UsageError

if TYPE_CHECKING:
    from layersmith.progress import Event

MODES = ("auto", "tty", "plain", "json", "quiet")

DOCKERS_VARIABLE = "BUILDKIT_PROGRESS"
"""The mode to take where the command line does not say."""


class Display(Protocol):
    """A Progress that has an end; ``error`` is what ended the command, if it failed."""

    def emit(self, event: Event) -> None: ...

    def close(self, error: BaseException | None) -> None: ...


def progress_argument(parser: ArgumentParser) -> None:
    """``--progress``."""
    parser.add_argument(
        "--progress",
        default="auto",
        choices=MODES,
        help="how to show what goes on: tty is a live view, json a stream of events (default: tty on a terminal)",
    )


@contextmanager
def display(mode: str | Display, *, quiet: bool = False, ticking: bool = False) -> Iterator[Display]:
    """What shows the events of a block, until its end; by ``--progress`` and ``-q``, or ``mode`` itself.

    ``ticking``: a live view may have a thread at once. Where the block forks (build), it waits for the first step.

    Raises:
        UsageError: ``tty`` where there is no terminal, or no rich.
    """
    shown = (
        mode
        if not isinstance(mode, str)
        else _display("quiet" if quiet else _mode(mode, os.environ), ticking=ticking)
    )
    try:
        yield shown
    except BaseException as error:
        shown.close(error)
        raise
    shown.close(None)


def _display(mode: str, *, ticking: bool) -> Display:
    if mode == "quiet":
        return QuietProgress()
    if mode == "json":
        from layersmith.cli.progress.stream import JsonProgress

        return JsonProgress()
    if mode == "plain" or (mode == "auto" and not (_is_terminal() and _has_rich())):
        return PlainProgress()
    if not _is_terminal():
        raise UsageError("--progress=tty: standard error is no terminal", hint="--progress=plain suits a log")
    if not _has_rich():
        raise UsageError("--progress=tty needs rich", hint="pip install rich")
    from layersmith.cli.progress.live import LiveProgress

    return LiveProgress(ticking=ticking)


def _mode(asked: str, environ: Mapping[str, str]) -> str:
    """``--progress``, or else docker's variable, where it has a mode that we have."""
    if asked != "auto":
        return asked
    wanted = environ.get(DOCKERS_VARIABLE, "")
    wanted = {"rawjson": "json"}.get(wanted, wanted)
    return wanted if wanted in ("plain", "json", "quiet") else "auto"


def _is_terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def _has_rich() -> bool:
    return importlib.util.find_spec("rich") is not None
