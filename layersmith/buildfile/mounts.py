"""PARSE: the values of ``RUN --mount``. In: a `MountFlag` with variables. Out: a typed mount, without its input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from layersmith.buildfile.instructions import MountFlag


@dataclass(frozen=True, slots=True)
class Bind:
    """``from_`` names a stage, image or context (None: the build context); ``target`` is absolute."""

    target: str
    source: str = "/"
    from_: str | None = None
    readonly: bool = True


@dataclass(frozen=True, slots=True)
class Cache:
    """``sharing`` is shared, private or locked; ``from_``/``source`` are its first content."""

    target: str
    id: str
    sharing: str = "shared"
    from_: str | None = None
    source: str = "/"
    readonly: bool = False
    uid: int = 0
    gid: int = 0
    mode: int = 0o755


@dataclass(frozen=True, slots=True)
class Tmpfs:
    """``size`` in bytes, 0 for the kernel's default."""

    target: str
    size: int = 0


@dataclass(frozen=True, slots=True)
class Secret:
    """As a file (``target`` absolute, or None), as the environment variable ``env``, or both."""

    id: str
    target: str | None
    env: str | None = None
    required: bool = False
    uid: int = 0
    gid: int = 0
    mode: int = 0o400


@dataclass(frozen=True, slots=True)
class Ssh:
    """``target`` is None where not given: then it is /run/buildkit/ssh_agent.N, N counting a RUN's ssh mounts."""

    id: str = "default"
    target: str | None = None
    required: bool = False
    uid: int = 0
    gid: int = 0
    mode: int = 0o600


Mount = Bind | Cache | Tmpfs | Secret | Ssh


def resolve(flag: MountFlag, expand: Callable[[str], str], workdir: str) -> Mount:
    """The mount that ``flag`` means once ``expand`` has done its values; relative targets are below ``workdir``.

    Raises `PlanError` (a value that makes no sense) or what ``expand`` raises.
    """
    raise NotImplementedError
