"""Capabilities: names, sets and how a process gives them up. See capabilities(7)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from layersmith.errors import UsageError
from layersmith.linux import libc

NAMES: Final = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
]
"""By number, without ``CAP_`` (linux/capability.h)."""

ALL: Final = frozenset(f"CAP_{name}" for name in NAMES)

DEFAULT: Final = frozenset(
    f"CAP_{name}"
    for name in [
        "CHOWN",
        "DAC_OVERRIDE",
        "FSETID",
        "FOWNER",
        "MKNOD",
        "NET_RAW",
        "SETGID",
        "SETUID",
        "SETFCAP",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "SYS_CHROOT",
        "KILL",
        "AUDIT_WRITE",
    ]
)
"""What Docker gives (moby/oci/caps/defaults.go)."""


def bits(names: Iterable[str]) -> int:
    """The set as the kernel writes it."""
    return sum(1 << NAMES.index(name.removeprefix("CAP_")) for name in set(names))


def capabilities(add: Iterable[str] = (), drop: Iterable[str] = ()) -> frozenset[str]:
    """The default set with ``--cap-add`` and ``--cap-drop`` applied, as docker does: ALL in ``drop`` empties the
    default, ALL in ``add`` is everything, single names count after that. Raises UsageError for an unknown name."""
    added, dropped = {_canonical(n) for n in add}, {_canonical(n) for n in drop}
    base = ALL if "CAP_ALL" in added else frozenset() if "CAP_ALL" in dropped else DEFAULT
    if "CAP_ALL" in added:
        return base - dropped
    return (base - dropped) | added


def limit(keep: int, last: int) -> None:
    """Take everything but ``keep`` out of the bounding set, and all out of the ambient one."""
    for number in range(last + 1):
        if not keep >> number & 1:
            libc.prctl(libc.PR_CAPBSET_DROP, number)
    libc.prctl(libc.PR_CAP_AMBIENT, libc.PR_CAP_AMBIENT_CLEAR_ALL)


def _canonical(name: str) -> str:
    upper = "CAP_" + name.upper().removeprefix("CAP_")
    if upper != "CAP_ALL" and upper not in ALL:
        raise UsageError(
            f"unknown capability {name!r}", hint="the names are in capabilities(7), such as NET_ADMIN"
        )
    return upper
