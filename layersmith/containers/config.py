"""`ContainerConfig`: all that a container was asked to be, as a value; stored as config.json. Nothing in it ever changes."""

from __future__ import annotations

import json
from typing import Any

from layersmith.dataclass import asdict, dataclass, replace
from layersmith.errors import TransportError
from layersmith.linux.limits import NO_LIMITS, Limits
from layersmith.linux.mounts import Bind, Tmpfs
from layersmith.linux.sandbox import DEFAULT_CAPABILITIES, DEFAULT_SHM_SIZE, Rlimit
from layersmith.oci.descriptor import Descriptor
from layersmith.oci.process import Process

DEFAULT_STOP_SIGNAL = "SIGTERM"
DEFAULT_STOP_TIMEOUT = 10

Mount = Bind | Tmpfs
_MOUNTS: dict[str, type[Bind] | type[Tmpfs]] = {"bind": Bind, "tmpfs": Tmpfs}


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """A container.

    ``image`` is the name it was asked for by, ``manifest`` what the name meant then. ``entrypoint``, ``cmd``,
    ``labels`` and ``process`` are what `commit` writes into an image. ``created`` is seconds since the epoch.
    ``network`` is ``host``, ``none`` or ``default``. ``isolation`` is ``builtin``, or ``oci:`` and a runtime.
    ``open_stdin``: standard input is the caller's, or stays open; else it is /dev/null.
    """

    id: str
    name: str
    image: str
    manifest: Descriptor
    created: float
    process: Process
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    mounts: tuple[Mount, ...] = ()
    hostname: str = ""
    network: str = "default"
    capabilities: tuple[str, ...] = tuple(sorted(DEFAULT_CAPABILITIES))
    insecure: bool = False
    seccomp: bool = True
    no_new_privileges: bool = False
    readonly: bool = False
    init: bool = False
    tty: bool = False
    open_stdin: bool = False
    auto_remove: bool = False
    rlimits: tuple[Rlimit, ...] = ()
    add_hosts: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    shm_size: int = DEFAULT_SHM_SIZE
    limits: Limits = NO_LIMITS
    stop_signal: str = DEFAULT_STOP_SIGNAL
    stop_timeout: int = DEFAULT_STOP_TIMEOUT
    isolation: str = "builtin"
    log: bool = True

    def to_json(self) -> bytes:
        """JSON that `from_json` reads back as an equal value, and a person can read, too."""
        value = asdict(replace(self, mounts=()))
        value["manifest"] = self.manifest.to_json()
        value["mounts"] = [{"type": type(mount).__name__.lower()} | asdict(mount) for mount in self.mounts]
        return json.dumps(value, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> ContainerConfig:
        """Raises ValueError: this is not what `to_json` wrote."""
        try:
            value = {key: _tuples(item) for key, item in json.loads(data).items()}
            value["manifest"] = Descriptor.from_json(json.loads(data)["manifest"])
            value["process"] = Process(**value["process"])
            value["limits"] = Limits(**value["limits"])
            value["rlimits"] = tuple(Rlimit(**item) for item in value["rlimits"])
            value["mounts"] = tuple(_mount(item) for item in value["mounts"])
            return cls(**value)
        except (TypeError, KeyError, AttributeError, TransportError) as error:
            raise ValueError(str(error)) from None


def _mount(value: dict[str, Any]) -> Mount:
    return _MOUNTS[value.pop("type")](**value)


def _tuples(value: Any) -> Any:
    """JSON's arrays as the tuples that they were."""
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return value
