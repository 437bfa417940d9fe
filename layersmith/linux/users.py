"""Who a container's process runs as. In: a Dockerfile's ``USER`` and /etc/passwd, /etc/group. Out: `Identity`.

As BuildKit and docker run do it (moby/sys user.GetExecUser): a lone number is looked up too, for its group and home.
"""

from __future__ import annotations

from collections.abc import Iterator

from layersmith.dataclass import dataclass
from layersmith.errors import StepError

HIGHEST_ID = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Identity:
    """Numeric user, group and supplementary groups; ``home`` is ``/`` where passwd does not say."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    home: str = "/"


def resolve_user(user: str, passwd: bytes | None, group: bytes | None) -> Identity:
    """Resolve ``""`` (root), ``name``, ``uid``, ``name:group``, ``uid:gid``.

    ``passwd`` and ``group`` are the files' bytes, None where the file is missing. A user that passwd knows, by name or
    by id, gets its primary group and all groups that list it, or with ``:group`` only that one; an id that passwd does
    not know gets group 0. Raises StepError naming the file that lacks a name.
    """
    name, colon, group_name = user.partition(":")
    entry = _find_user(name or "0", passwd)
    if entry is None:
        uid = _number(name or "0")
        if uid is None:
            raise _unknown("user", name, "/etc/passwd", passwd)
        found = Identity(uid, 0)
        login = None
    else:
        found = Identity(entry.uid, entry.gid, (), entry.home)
        login = entry.name
    if colon and group_name:
        return Identity(found.uid, _find_group(group_name, group), (), found.home)
    groups = tuple(gid for _, gid, members in _groups(group) if login in members) if login else ()
    return Identity(found.uid, found.gid, groups, found.home)


def resolve_owner(owner: str, passwd: bytes | None, group: bytes | None) -> tuple[int, int]:
    """(uid, gid) for ``--chown``: as `resolve_user`, but a lone numeric uid has the like gid, and ``name:`` gid 0."""
    name, colon, group_name = owner.partition(":")
    uid = _number(name or "0")
    if uid is None:
        entry = _find_user(name, passwd)
        if entry is None:
            raise _unknown("user", name, "/etc/passwd", passwd)
        uid, gid = entry.uid, entry.gid
    else:
        gid = uid
    if colon:
        gid = _find_group(group_name, group) if group_name else 0
    return uid, gid


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    uid: int
    gid: int
    home: str


def _find_user(name: str, passwd: bytes | None) -> _Entry | None:
    """The first entry whose id is ``name`` where that is a number, else the first so called."""
    wanted = _number(name)
    for line in _lines(passwd):
        fields = line.split(":")
        if len(fields) < 4:
            continue
        uid, gid = _number(fields[2]), _number(fields[3])
        if uid is None or gid is None:
            continue
        if uid == wanted if wanted is not None else fields[0] == name:
            return _Entry(fields[0], uid, gid, (fields[5] if len(fields) > 5 else "") or "/")
    return None


def _find_group(name: str, group: bytes | None) -> int:
    wanted = _number(name)
    if wanted is not None:
        return wanted
    for found, gid, _ in _groups(group):
        if found == name:
            return gid
    raise _unknown("group", name, "/etc/group", group)


def _groups(group: bytes | None) -> Iterator[tuple[str, int, tuple[str, ...]]]:
    for line in _lines(group):
        fields = line.split(":")
        if len(fields) >= 3 and (gid := _number(fields[2])) is not None:
            yield fields[0], gid, tuple(fields[3].split(",")) if len(fields) > 3 else ()


def _lines(data: bytes | None) -> list[str]:
    text = (data or b"").decode("utf-8", "surrogateescape")
    return [line.strip() for line in text.split("\n") if line.strip() and not line.startswith("#")]


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and int(text) <= HIGHEST_ID else None


def _unknown(kind: str, name: str, path: str, data: bytes | None) -> StepError:
    where = f"{path} of the image has no such entry" if data is not None else f"the image has no {path}"
    numeric = "uid" if kind == "user" else "gid"
    return StepError(
        f"unknown {kind} {name!r}: {where}",
        hint=f"create the {kind} in an earlier step, or use a numeric {numeric}",
    )
