"""A `Cause` as a line for a person. In: a cause. Out: text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layersmith.store.build_record import Cause

_PLAIN = re.compile(r"(file|dir) (\S+) (\S+)(?: ([0-9a-f]+))? *")
_MOST = 80


def cause_text(cause: Cause) -> str:
    """Such as ``src/a.c: content 1a2b3c4d5e6f → 0f1e2d3c4b5a``."""
    match cause.kind:
        case "file":
            return _file(cause)
        case "env" | "arg":
            return f"{cause.kind.upper()} {cause.subject}{_change(cause)}"
        case "command":
            return f"the command: {_short(cause.old)} → {_short(cause.new)}"
        case "mount":
            return f"the mount {cause.subject}{_change(cause)}"
        case "option":
            return f"{cause.subject}{_change(cause)}"
        case "parent":
            return f"the files below, of step {cause.step} {_short(cause.subject)}{_change(cause)}"
        case "base":
            return f"the base {cause.subject}{_change(cause)}"
        case "input":
            return f"the files of step {cause.step} {_short(cause.subject)}{_change(cause)}"
        case "epoch":
            return f"{cause.subject}{_change(cause)}"
        case "flag":
            return f"{cause.subject} was given"
        case "evicted":
            return "nothing changed, but its record or its layer is no longer in the store"
        case _:
            return "there is no earlier step like it"


def _change(cause: Cause) -> str:
    if not cause.old and not cause.new:
        return " changed"
    old, new = _short(cause.old.removeprefix("=")), _short(cause.new.removeprefix("="))
    if not cause.old:
        return f" is new: {new}"
    if not cause.new:
        return f" is gone, it was {old}"
    return f": {old} → {new}"


def _short(text: str) -> str:
    """Digests to twelve digits, everything to one line."""
    if text.startswith("sha256:"):
        return text[7:19]
    text = " ".join(text.split())
    return repr("") if not text else text if len(text) <= _MOST else text[: _MOST - 1] + "…"


def _file(cause: Cause) -> str:
    if not cause.subject:
        where = f"{cause.of}: " if cause.of else ""
        return f"{where}{cause.new}" if not cause.old else f"{where}its content{_change(cause)}"
    old, new = _PLAIN.fullmatch(cause.old), _PLAIN.fullmatch(cause.new)
    path = cause.subject if cause.of in ("", "the context") else f"{cause.subject} (of {cause.of})"
    if not cause.old or not cause.new:
        return f"{path} is {'new' if cause.new else 'gone'}"
    if old is None or new is None or old[1] != new[1]:
        return f"{path}{_change(cause)}"
    changed = [
        f"{what} {before} → {after}"
        for what, before, after in zip(
            ("mode", "owner", "content"), old.groups()[1:], new.groups()[1:], strict=True
        )
        if before != after
    ]
    return f"{path}: {', '.join(changed)}"
