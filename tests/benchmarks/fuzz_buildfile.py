"""Fuzz the language: ``python tests/benchmarks/fuzz_buildfile.py [MINUTES] [SEED]`` (one minute, a random seed).

Any text parses or is a `BuildfileSyntaxError` with a span inside the file; what parses is printed and formatted to the
same, and checked without trouble; words expand or are `ExpansionError`; nothing takes long. Ends with status 1 and the
text at the first violation.
"""

from __future__ import annotations

import random
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT.parent), str(ROOT / "buildfile")]

from conftest import FRAGMENTS  # noqa: E402
from test_properties import inside  # noqa: E402

from layersmith.buildfile.format import fmt  # noqa: E402
from layersmith.buildfile.lint import LintOptions, lint  # noqa: E402
from layersmith.buildfile.parser import parse  # noqa: E402
from layersmith.buildfile.unparse import unparse  # noqa: E402
from layersmith.buildfile.words import expand, expand_heredoc, expand_words  # noqa: E402
from layersmith.errors import BuildfileSyntaxError, ExpansionError  # noqa: E402

SLOWEST = 2.0
"""Seconds of processor time for one operation on one text; the longest texts are a mebibyte."""

ENV = {"a": "x y", "b": "", "v": "*/?\n"}


def texts(chance: random.Random) -> Iterator[str]:
    """Endless texts: pieces of the language in any order, damaged golden Buildfiles, and now and then a huge one."""
    corpus = [
        path.read_bytes().decode("utf-8", "surrogateescape")
        for path in sorted((ROOT / "cases").glob("*/*/Buildfile"))
    ]
    while True:
        kind = chance.random()
        if kind < 0.5:
            lines = (
                chance.choice((" ", " ", "")).join(chance.choices(FRAGMENTS, k=chance.randint(0, 7)))
                for _ in range(chance.choice((1, 1, 2, 3, 6)))
            )
            yield chance.choice(("", "FROM x\n")) + "\n".join(lines)
        elif kind < 0.998:
            yield damaged(chance, chance.choice(corpus))
        else:
            piece = "".join(chance.choices(FRAGMENTS, k=chance.randint(1, 4))) or "x"
            yield chance.choice(("", "RUN ", "ENV ", "COPY ")) + piece * (
                chance.choice((1 << 14, 1 << 20)) // len(piece)
            )


def damaged(chance: random.Random, text: str) -> str:
    """A few pieces put in, taken out, doubled or moved."""
    for _ in range(chance.randint(1, 4)):
        start = chance.randint(0, len(text))
        end = min(len(text), start + chance.choice((0, 0, 1, 2, 8, 40)))
        put = chance.choice(
            (chance.choice(FRAGMENTS), text[start:end] * 2, "", chance.choice(text) if text else "")
        )
        text = text[:start] + put + text[end:]
    return text


class TooSlow(Exception):
    """An operation took longer than `SLOWEST`."""


slowest = 0.0


@contextmanager
def timed(what: str) -> Iterator[None]:
    global slowest
    begin = time.process_time()
    try:
        yield
    finally:
        took = time.process_time() - begin
        slowest = max(slowest, took)
        if took > SLOWEST:
            raise TooSlow(f"{what} took {took:.1f} s")


def violation(text: str) -> str | None:
    """What is wrong with how ``text`` is dealt with, or None. Other exceptions go through."""
    for function in (expand, expand_words, expand_heredoc):
        with timed(function.__name__), suppress(ExpansionError):
            function(text, ENV)
    try:
        with timed("parse"):
            buildfile = parse(text)
    except BuildfileSyntaxError as error:
        return (
            None
            if all(inside(each.span) for each in (error, *error.others))
            else "an error's span is outside"
        )
    if not all(inside(instruction.span) for instruction in buildfile.instructions):
        return "an instruction's span is outside"
    if len(text) > 1 << 15:
        return None
    if parse(unparse(buildfile)) != buildfile:
        return "printed it is another"
    formatted = fmt(text)
    if parse(formatted) != buildfile:
        return "formatted it is another"
    if fmt(formatted) != formatted:
        return "formatting does not settle"
    lint(buildfile, LintOptions(dialect="dockerfile"))
    return None


def main(minutes: float, seed: int) -> int:
    chance = random.Random(seed)
    end = time.monotonic() + 60 * minutes
    for count, text in enumerate(texts(chance), start=1):
        try:
            found = violation(text)
        except Exception:
            found = traceback.format_exc(limit=-4)
        if found:
            print(f"seed {seed}, text {count}: {found}\n{text[:2000]!r}")
            return 1
        if time.monotonic() > end:
            print(f"seed {seed}: {count} texts, the slowest operation took {slowest:.2f} s")
            return 0
    return 0


if __name__ == "__main__":
    arguments = sys.argv[1:]
    raise SystemExit(
        main(
            float(arguments[0]) if arguments else 1,
            int(arguments[1]) if len(arguments) > 1 else random.randrange(10**9),
        )
    )
