"""EXECUTE: ``--chmod`` and ``--chown``. In: their text, and the destination's passwd and group. Out: modes and ids."""

from __future__ import annotations

import re
from collections.abc import Callable

from layersmith.dataclass import dataclass
from layersmith.errors import CopyError, NotFoundError

MAX_ID = 2**32 - 2
"""uid_t is 32 bits, and its largest value means "leave as it is" to chown(2)."""
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
        CopyError: neither.
    """
    if re.fullmatch(r"[0-7]+", text) and int(text, 8) <= 0o7777:
        return Chmod(int(text, 8))
    clauses = [_CLAUSE.fullmatch(clause) for clause in text.split(",")]
    if not text or any(clause is None for clause in clauses):
        raise CopyError(
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


def parse_owner(text: str, read: Callable[[bytes], bytes], *, flag: str = "--chown") -> tuple[int, int]:
    """The ids of ``user[:group]``; names are looked up in the image's own files through ``read(path)``.

    An id alone is its own group as well; a name brings its primary group; ``user:`` is group 0 (REFERENCE: BuildKit).

    Raises:
        CopyError: a name that its file does not have, or an id out of range.
    """
    user, colon, group = text.partition(":")
    uid, gid = (0, 0) if not user else _user(user, read, flag)
    if colon:
        gid = _group(group, read, flag) if group else 0
    return uid, gid


def has_names(text: str) -> bool:
    """Whether ``user[:group]`` needs /etc/passwd or /etc/group."""
    return any(not (part.isascii() and part.isdigit()) for part in text.split(":", 1) if part)


def _user(name: str, read: Callable[[bytes], bytes], flag: str) -> tuple[int, int]:
    if name.isascii() and name.isdigit():
        number = _id(name, flag)
        return number, number
    for row in _rows(b"etc/passwd", read):
        if len(row) > 3 and row[0] == name and row[2].isdigit() and row[3].isdigit():
            return int(row[2]), int(row[3])
    raise _unknown("user", name, "/etc/passwd", flag)


def _group(name: str, read: Callable[[bytes], bytes], flag: str) -> int:
    if name.isascii() and name.isdigit():
        return _id(name, flag)
    for row in _rows(b"etc/group", read):
        if len(row) > 2 and row[0] == name and row[2].isdigit():
            return int(row[2])
    raise _unknown("group", name, "/etc/group", flag)


def _id(text: str, flag: str) -> int:
    if int(text) > MAX_ID:
        raise CopyError(f"{flag}: the id {text} is out of range", hint=f"ids go up to {MAX_ID}")
    return int(text)


def _rows(path: bytes, read: Callable[[bytes], bytes]) -> list[list[str]]:
    try:
        data = read(path)
    except NotFoundError:
        return []
    return [line.split(":") for line in data.decode("utf-8", "surrogateescape").splitlines()]


def _unknown(what: str, name: str, file: str, flag: str) -> CopyError:
    return CopyError(
        f'{flag}: there is no {what} "{name}" in the image\'s {file}',
        hint=f"create it in an earlier RUN, or give a numeric {what} id",
    )
