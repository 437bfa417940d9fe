"""`Process`, after runtime-spec's ``process`` object: what to execute, as whom, where."""

from __future__ import annotations

from layersmith.dataclass import dataclass

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""What a process gets where its image says nothing, as in Docker."""


@dataclass(frozen=True, slots=True)
class Process:
    """A command: ``args`` (argv), ``env`` as ordered (name, value) pairs, ``cwd`` (absolute in the container).

    ``user`` is as in a Dockerfile: ``""`` (root), a name, an id, ``user:group``; it is resolved in the container's
    own /etc/passwd and /etc/group.
    """

    args: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    cwd: str = "/"
    user: str = ""
