"""How an error looks on a terminal: what happened, where, what to do about it."""

from __future__ import annotations

import sys

from layersmith.errors import BuildfileError, CommandError, LayersmithError

MOST = 20
"""Errors of one run that are printed: a file that is no Buildfile has one in every line."""


def show(error: LayersmithError) -> None:
    """Print ``error``, and any others found in the same run, on standard error."""
    print(render(error), file=sys.stderr)


def render(error: LayersmithError) -> str:
    """The text of `show`."""
    lines = []
    if error.span is not None:
        lines += [f"{error.span}:", error.span.excerpt()]
    if isinstance(error, CommandError) and error.tail:
        lines += ["", "last output:", *("  " + line for line in error.tail.splitlines()), ""]
    lines.append(f"error: {error.message}")
    if error.hint:
        lines.append(f"hint: {error.hint}")
    if isinstance(error, BuildfileError):
        for other in error.others[: MOST - 1]:
            lines += ["", render(other)]
        if len(error.others) >= MOST:
            lines += ["", f"and {len(error.others) - MOST + 1} more"]
    return "\n".join(lines)
