"""PARSE: ``--chmod``. In: its text. Out: what becomes of a file's mode."""

from __future__ import annotations

import re

from layersmith.dataclass import dataclass
from layersmith.errors import PlanError

_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[rwxXst]*|[ugo]))+)")
_ACTION = re.compile(r"([-+=])([ugo]|[rwxXst]*)")
_SHIFT = {"u": 6, "g": 3, "o": 0}


@dataclass(frozen=True, slots=True)
class Chmod:
    """A ``--chmod``: an ``octal`` mode, else symbolic ``actions`` of (who, operator, what) in their order."""

    octal: int | None
    actions: tuple[tuple[str, str, str], ...] = ()

    @property
    def parents(self) -> int:
        """The mode of directories that are made on the way: an octal one is put on them too (BuildKit), else 0755."""
        return 0o755 if self.octal is None else self.octal

    def __call__(self, mode: int, *, is_dir: bool) -> int:
        """The new permission bits of a file that has ``mode``."""
        if self.octal is not None:
            return self.octal
        for who, operator, what in self.actions:
            mode = _change(mode, who, operator, what, is_dir=is_dir)
        return mode


def parse_chmod(text: str) -> Chmod:
    """``755``, ``u=rwX,go=rX``: octal up to 07777, or symbolic as chmod(1) reads it with a umask of 0.

    Raises:
        PlanError: neither.
    """
    if re.fullmatch(r"[0-7]+", text) and int(text, 8) <= 0o7777:
        return Chmod(int(text, 8))
    clauses = [_CLAUSE.fullmatch(clause) for clause in text.split(",")]
    if not text or any(clause is None for clause in clauses):
        raise PlanError(
            f'--chmod="{text}" is not a mode',
            hint="write an octal number up to 7777, or a symbolic mode such as u=rwX,go=rX",
        )
    actions = tuple(
        (match[1].replace("a", "ugo") or "ugo", operator, what)
        for match in clauses
        if match is not None
        for operator, what in _ACTION.findall(match[2])
    )
    return Chmod(None, actions)


def _change(mode: int, who: str, operator: str, what: str, *, is_dir: bool) -> int:
    bits = 0
    mask = 0
    for whose in who:
        shift = _SHIFT[whose]
        mask |= 0o7 << shift
        if what in _SHIFT:
            bits |= (mode >> _SHIFT[what] & 0o7) << shift
            continue
        for letter in what:
            if letter in "rwx":
                bits |= {"r": 4, "w": 2, "x": 1}[letter] << shift
            elif letter == "X" and (is_dir or mode & 0o111):
                bits |= 1 << shift
            elif letter == "s":
                bits |= {"u": 0o4000, "g": 0o2000, "o": 0}[whose]
            elif letter == "t":
                bits |= 0o1000
        mask |= {"u": 0o4000, "g": 0o2000, "o": 0o1000}[whose]
    if operator == "+":
        return mode | bits
    if operator == "-":
        return mode & ~bits
    return mode & ~mask | bits
