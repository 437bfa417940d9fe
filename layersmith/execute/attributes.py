"""EXECUTE: ``--chown``. In: its text, and the destination's passwd and group. Out: ids."""

from __future__ import annotations

from collections.abc import Callable

from layersmith.errors import CopyError, NotFoundError

MAX_ID = 2**32 - 2
"""uid_t is 32 bits, and its largest value means "leave as it is" to chown(2)."""


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
