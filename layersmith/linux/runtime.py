"""What runs a sandbox: the built-in spawner, or an OCI runtime. The seam that tests put a fake into.

In: the name that ``--isolation`` gives. Out: a `Runtime`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from layersmith.errors import UsageError

if TYPE_CHECKING:
    from layersmith.linux.sandbox import Sandbox
    from layersmith.linux.spawner import Spawner

BUILTIN = "builtin"
OCI_RUNTIMES = ("crun", "runc")


class Started(Protocol):
    """See `layersmith.linux.spawner.Running`; the end of a ``with`` block ends it."""

    @property
    def pid(self) -> int: ...
    @property
    def terminal(self) -> int | None: ...
    def wait(self) -> int: ...
    def kill(self, signal: int = 9) -> None: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Runtime(Protocol):
    """See `layersmith.linux.spawner.Spawner`."""

    def run(self, sandbox: Sandbox, *, stdin: int, stdout: int, stderr: int) -> Started: ...


def find(isolation: str) -> str | None:
    """The program that runs sandboxes under ``--isolation``: None for ``builtin`` (or ``default``, as docker calls its
    own), else the path of the OCI runtime that ``oci`` or ``oci:NAME`` means. Raises UsageError."""
    kind, _, wanted = isolation.partition(":")
    if isolation in (BUILTIN, "default"):
        return None
    if kind != "oci":
        raise UsageError(
            f"unknown isolation {isolation!r}", hint="there are builtin, oci, oci:crun and oci:runc"
        )
    for candidate in (wanted,) if wanted else OCI_RUNTIMES:
        path = shutil.which(candidate)
        if path:
            return path
    raise UsageError(
        f"no OCI runtime {wanted or ' or '.join(OCI_RUNTIMES)} is installed", hint="leave --isolation out"
    )


def runtime(isolation: str, spawner: Spawner, temporary: Callable[[str], Path]) -> Runtime:
    """What ``isolation`` means; ``temporary(prefix)`` makes a fresh directory. Raises UsageError."""
    program = find(isolation)
    if program is None:
        return spawner
    from layersmith.linux.oci_runtime import OciRuntime

    return OciRuntime(spawner, program, temporary)
