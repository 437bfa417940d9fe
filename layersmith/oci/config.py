"""`ImageConfig`: image-spec config.md as a value. In and out: JSON bytes.

Docker's Healthcheck, Shell and OnBuild are known as well; members that nobody here knows are kept in ``extra``.
"""

from __future__ import annotations

import json
from typing import Any

from layersmith.dataclass import dataclass
from layersmith.errors import TransportError
from layersmith.oci.digest import DiffID, parse_digest
from layersmith.oci.document import Annotations, Fields, canonical, parse_object
from layersmith.oci.platform import Platform

_TOP = frozenset(
    [
        "architecture",
        "os",
        "os.version",
        "os.features",
        "variant",
        "created",
        "author",
        "config",
        "rootfs",
        "history",
    ]
)
_CONFIG = frozenset(
    [
        "User",
        "ExposedPorts",
        "Env",
        "Entrypoint",
        "Cmd",
        "Volumes",
        "WorkingDir",
        "Labels",
        "StopSignal",
        "ArgsEscaped",
        "Shell",
        "Healthcheck",
        "OnBuild",
    ]
)
_NESTED = "config/"


@dataclass(frozen=True, slots=True)
class History:
    """How one layer came about; ``empty_layer`` where the step made none. ``created`` is RFC 3339."""

    created: str | None = None
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False

    def to_json(self) -> dict[str, Any]:
        value = {
            "created": self.created,
            "created_by": self.created_by,
            "author": self.author,
            "comment": self.comment,
            "empty_layer": self.empty_layer,
        }
        return {key: item for key, item in value.items() if item}


@dataclass(frozen=True, slots=True)
class Healthcheck:
    """Docker's health check. Times in nanoseconds; 0 means that the runtime's default holds."""

    test: tuple[str, ...] = ()
    interval_ns: int = 0
    timeout_ns: int = 0
    start_period_ns: int = 0
    start_interval_ns: int = 0
    retries: int = 0

    def to_json(self) -> dict[str, Any]:
        value = {
            "Test": list(self.test),
            "Interval": self.interval_ns,
            "Timeout": self.timeout_ns,
            "StartPeriod": self.start_period_ns,
            "StartInterval": self.start_interval_ns,
            "Retries": self.retries,
        }
        return {key: item for key, item in value.items() if item}


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """An image's config.

    ``env`` holds ``NAME=value`` in order; ``exposed_ports`` (``80/tcp``), ``volumes`` and ``labels`` are sorted when
    written. None and ``()`` for ``cmd``, ``entrypoint`` and ``shell`` are both written as absent. ``extra`` holds
    (name, JSON text) pairs of other members; those of the inner ``config`` object have names like ``config/Domainname``.
    """

    platform: Platform
    created: str | None = None
    author: str = ""
    env: tuple[str, ...] = ()
    cmd: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    user: str = ""
    working_dir: str = ""
    exposed_ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    labels: Annotations = ()
    stop_signal: str = ""
    shell: tuple[str, ...] | None = None
    healthcheck: Healthcheck | None = None
    on_build: tuple[str, ...] = ()
    args_escaped: bool = False
    diff_ids: tuple[DiffID, ...] = ()
    history: tuple[History, ...] = ()
    extra: Annotations = ()

    def to_json(self) -> bytes:
        """Canonical bytes: equal configs have equal digests."""
        value: dict[str, Any] = self.platform.to_json()
        config = self._config_json()
        for key, text in self.extra:
            if key.startswith(_NESTED):
                config[key.removeprefix(_NESTED)] = json.loads(text)
            else:
                value[key] = json.loads(text)
        if self.created:
            value["created"] = self.created
        if self.author:
            value["author"] = self.author
        value["config"] = config
        value["rootfs"] = {"type": "layers", "diff_ids": list(self.diff_ids)}
        if self.history:
            value["history"] = [entry.to_json() for entry in self.history]
        return canonical(value)

    def _config_json(self) -> dict[str, Any]:
        value = {
            "User": self.user,
            "ExposedPorts": {port: {} for port in self.exposed_ports},
            "Env": list(self.env),
            "Entrypoint": list(self.entrypoint or ()),
            "Cmd": list(self.cmd or ()),
            "Volumes": {path: {} for path in self.volumes},
            "WorkingDir": self.working_dir,
            "Labels": dict(self.labels),
            "StopSignal": self.stop_signal,
            "ArgsEscaped": self.args_escaped,
            "Shell": list(self.shell or ()),
            "Healthcheck": None if self.healthcheck is None else self.healthcheck.to_json(),
            "OnBuild": list(self.on_build),
        }
        return {key: item for key, item in value.items() if item}

    @classmethod
    def from_json(cls, data: bytes) -> ImageConfig:
        """Read a config; Docker's nulls count as missing.

        Raises:
            TransportError: not JSON, or a member is of the wrong type.
        """
        top = parse_object(data, "image config")
        config = top.object("config") or Fields({}, "image config: 'config'")
        rootfs = top.object("rootfs")
        if rootfs is None:
            raise TransportError(
                "image config: 'rootfs' is missing", hint="this is not the config of a container image"
            )
        nested = tuple((_NESTED + key, text) for key, text in config.others(_CONFIG))
        return cls(
            platform=Platform.from_fields(top),
            created=top.text("created") or None,
            author=top.text("author"),
            env=config.texts("Env"),
            cmd=config.texts("Cmd") or None,
            entrypoint=config.texts("Entrypoint") or None,
            user=config.text("User"),
            working_dir=config.text("WorkingDir"),
            exposed_ports=config.names("ExposedPorts"),
            volumes=config.names("Volumes"),
            labels=config.pairs("Labels"),
            stop_signal=config.text("StopSignal"),
            shell=config.texts("Shell") or None,
            healthcheck=_healthcheck(config.object("Healthcheck")),
            on_build=config.texts("OnBuild"),
            args_escaped=config.boolean("ArgsEscaped"),
            diff_ids=tuple(DiffID(parse_digest(text)) for text in rootfs.texts("diff_ids")),
            history=tuple(_history(entry) for entry in top.objects("history")),
            extra=tuple(sorted(top.others(_TOP) + nested)),
        )


def _history(fields: Fields) -> History:
    return History(
        created=fields.text("created") or None,
        created_by=fields.text("created_by"),
        author=fields.text("author"),
        comment=fields.text("comment"),
        empty_layer=fields.boolean("empty_layer"),
    )


def _healthcheck(fields: Fields | None) -> Healthcheck | None:
    if fields is None:
        return None
    found = Healthcheck(
        test=fields.texts("Test"),
        interval_ns=fields.integer("Interval"),
        timeout_ns=fields.integer("Timeout"),
        start_period_ns=fields.integer("StartPeriod"),
        start_interval_ns=fields.integer("StartInterval"),
        retries=fields.integer("Retries"),
    )
    return None if found == Healthcheck() else found
