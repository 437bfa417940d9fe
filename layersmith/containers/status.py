"""What became of a container: its ``status`` file, one JSON line for each change, the last one counts.

Appended lines are atomic, survive a crash in between, and can be read to the end by who opened the file before the
container was removed: that is how ``wait`` learns the exit status of a ``--rm`` container.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from layersmith.dataclass import asdict, dataclass
from layersmith.store.files import storing, write_all

CREATED, RUNNING, EXITED = "created", "running", "exited"
KILLED = 137


@dataclass(frozen=True, slots=True)
class Status:
    """``state`` since ``at`` (seconds since the epoch). Running: ``pid`` is the container's first process and
    ``supervisor`` who started it. Exited: ``code`` as a shell gives it, ``error`` why it could not run or was ended,
    ``started`` when it began (0: never). ``cgroups``: directories of the control groups that it runs in."""

    state: str
    at: float
    pid: int = 0
    supervisor: int = 0
    code: int = 0
    error: str = ""
    started: float = 0.0
    cgroups: tuple[str, ...] = ()


def append_status(path: Path, status: Status) -> None:
    """Record ``status``; raises StoreError."""
    with storing(path):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            write_all(fd, json.dumps(asdict(status)).encode() + b"\n")
        finally:
            os.close(fd)


def read_status(fd: int) -> Status | None:
    """The last whole line of the open file ``fd``; None before there is one."""
    data = b""
    while part := os.pread(fd, 1 << 16, len(data)):
        data += part
    for line in reversed(data.split(b"\n")[:-1]):
        try:
            values = json.loads(line)
            return Status(**values | {"cgroups": tuple(values.get("cgroups", ()))})
        except (ValueError, TypeError):
            continue
    return None
