"""What every command that lists something has in common: a table, ``--format`` and ``-q``. In: records. Out: print.

A record is what ``--format json`` shows of one thing, one object a line: sizes in bytes, times in RFC 3339, docker's
names of members. The table's cells are made from it, so both always say the same.
"""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from layersmith.cli.format import HELP, formatter
from layersmith.cli.table import table, terminal_safe
from layersmith.dataclass import dataclass

Record = Mapping[str, Any]

_TABLE = "table "
_ACTION = re.compile(r"\{\{.*?(\w+)\s*\}\}")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table: its title, and what it shows of a record."""

    header: str
    cell: Callable[[Record], str]
    right: bool = False


def listing_arguments(parser: ArgumentParser, *, quiet: str, trunc: bool = True) -> None:
    """The options of `show`; ``quiet`` says what ``-q`` prints."""
    parser.add_argument("-q", "--quiet", action="store_true", help=f"print {quiet} only")
    parser.add_argument("--format", metavar="FORMAT", help=f"{HELP}; a line for each (default: a table)")
    if trunc:
        parser.add_argument("--no-trunc", action="store_true", help="shorten nothing")


def show(args: Namespace, records: Iterable[Record], columns: Sequence[Column], *, quiet: str) -> None:
    """Print ``records`` as ``args`` asks; ``quiet`` is the member that ``-q`` prints, each value once."""
    if args.quiet:
        for value in dict.fromkeys(str(record[quiet]) for record in records):
            print(value)
    elif args.format is None or args.format == "table":
        headers = [column.header for column in columns]
        rows = [[column.cell(record) for column in columns] for record in records]
        print(table(headers, rows, right=[column.header for column in columns if column.right]))
    elif args.format.startswith(_TABLE):
        text = args.format.removeprefix(_TABLE).replace("\\t", "\t")
        write = formatter(text)
        headers = [_ACTION.sub(r"\1", cell).upper() for cell in text.split("\t")]
        rows = [write(record).split("\t") for record in records]
        print(table(headers, [(row + [""] * len(headers))[: len(headers)] for row in rows]))
    else:
        write = formatter(args.format.replace("\\t", "\t").replace("\\n", "\n"))
        for record in records:
            emit(write(record))


def format_argument(parser: ArgumentParser) -> None:
    """``--format`` of a command that says what it did, for `print_records`."""
    parser.add_argument("--format", metavar="FORMAT", help=f"{HELP}; a line for each (default: for people)")


def print_records(text: str, records: Iterable[Record]) -> None:
    """Print each of ``records`` as ``--format`` ``text`` asks. Raises UsageError."""
    write = formatter(text.replace("\\t", "\t").replace("\\n", "\n"))
    for record in records:
        emit(write(record))


def emit(text: str) -> None:
    """Print ``text`` from an image: as it is for a program, but with its control characters escaped for a person."""
    if sys.stdout.isatty():
        text = terminal_safe(text)
    sys.stdout.write(text + "\n")
