"""What runs a sandbox: the built-in spawner, or an OCI runtime (`oci`). The seam that tests put a fake into."""

from __future__ import annotations

from typing import Protocol

from layersmith.linux.sandbox import Sandbox


class Started(Protocol):
    """See `layersmith.linux.spawner.Running`."""

    @property
    def pid(self) -> int: ...
    @property
    def terminal(self) -> int | None: ...
    def wait(self) -> int: ...
    def kill(self, signal: int = 9) -> None: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...


class Runtime(Protocol):
    """See `layersmith.linux.spawner.Spawner`."""

    def run(self, sandbox: Sandbox, *, stdin: int, stdout: int, stderr: int) -> Started: ...
