"""Who a container's process runs as. In: a Dockerfile's ``USER`` and /etc/passwd, /etc/group. Out: `Identity`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Identity:
    """Numeric user, group and supplementary groups; ``home`` is ``/`` where passwd does not say."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    home: str = "/"


def resolve_user(user: str, passwd: bytes | None, group: bytes | None) -> Identity:
    """Resolve ``""`` (root), ``name``, ``uid``, ``name:group``, ``uid:gid``.

    ``passwd`` and ``group`` are the files' bytes, None where the file is missing. A name gives its primary group and
    all groups that list it; with ``:group`` only that group. Raises StepError naming the file that lacks a name.
    """
    raise NotImplementedError


def resolve_owner(owner: str, passwd: bytes | None, group: bytes | None) -> tuple[int, int]:
    """(uid, gid) for ``--chown``: as `resolve_user`, but a lone numeric uid has the like gid, and ``name:`` gid 0."""
    raise NotImplementedError
