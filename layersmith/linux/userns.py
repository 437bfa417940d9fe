"""What the whole process does first of all: leave the host's mount namespace, and, if not root, get a user namespace.

In: the calling user. Out: `Isolation`, what that came to. See user_namespaces(7), newuidmap(1), subuid(5).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Isolation:
    """How this process stands towards the host.

    ``rootless``: it runs in a user namespace of its own. ``single_id``: only one user and one group exist in there
    (no subuid ranges), so chown to anything but 0 fails. ``userxattr``: what `Overlay.userxattr` has to be.
    ``uids`` and ``gids``: how many ids are mapped, from 0 on. ``warnings``: sentences for the user.
    """

    rootless: bool
    single_id: bool
    userxattr: bool
    uids: int
    gids: int
    warnings: tuple[str, ...] = ()


def enter() -> Isolation:
    """Isolate the calling process, which must have no other thread. Raises SandboxError with what to change.

    Root: a private mount namespace. Anyone else: first a user namespace in which they are root, with the ranges of
    /etc/subuid and /etc/subgid where there are any (through newuidmap and newgidmap), else with their one id.
    """
    raise NotImplementedError


def join(pid: int) -> Isolation:
    """Enter the user and mount namespaces of the layersmith process ``pid`` instead of new ones (for ``exec``).

    Like `enter`, before any thread. Raises SandboxError.
    """
    raise NotImplementedError
