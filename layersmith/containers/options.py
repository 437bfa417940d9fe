"""The option values of ``run``, as docker writes them. In: their texts. Out: mounts, variables, limits; or UsageError."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path

from layersmith.buildfile.values import parse_bool, parse_size
from layersmith.containers.config import Mount
from layersmith.errors import UsageError
from layersmith.linux.mounts import Bind, Tmpfs

_NO_VOLUMES = "there are no named volumes; give a directory of this machine: -v /srv/data:/data"
_IGNORED = frozenset(("z", "Z", "cached", "delegated", "consistent", "rprivate", "private", "nocopy"))
"""Accepted without effect: nothing here labels for SELinux, caches, or shares mount events."""


def volume(text: str) -> Bind:
    """``-v SOURCE:TARGET[:ro]``. As with docker, a source that is missing is made, as a directory."""
    source, *rest = text.split(":")
    if not rest or len(rest) > 2:
        raise UsageError(f"invalid volume {text!r}", hint=f"write SOURCE:TARGET[:ro]; {_NO_VOLUMES}")
    if "/" not in source and source not in (".", ".."):
        raise UsageError(f"volume {text!r} has no path", hint=_NO_VOLUMES)
    readonly = False
    for word in rest[1].split(",") if len(rest) == 2 else ():
        if word in ("ro", "rw"):
            readonly = word == "ro"
        elif word not in _IGNORED:
            raise UsageError(f"volume {text!r}: unknown option {word!r}", hint="there are ro and rw")
    path = Path(source).absolute()
    try:
        if not path.exists():
            path.mkdir(parents=True)
    except OSError as error:
        raise UsageError(f"volume {text!r}: can't make {path}: {error.strerror}") from None
    return Bind(os.fspath(path), _target(rest[0], f"volume {text!r}"), readonly=readonly)


def mount(text: str) -> Mount:
    """``--mount type=bind,source=…,target=…[,readonly]``, or ``type=tmpfs,target=…[,tmpfs-size=…,tmpfs-mode=…]``."""
    import csv

    where = f"mount {text!r}"
    fields: dict[str, str] = {}
    for word in next(csv.reader([text]), []):
        key, separator, value = word.partition("=")
        name = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}.get(key, key)
        fields[name] = value if separator else "true"
    kind = fields.pop("type", "volume")
    if kind == "volume":
        raise UsageError(f"{where}: {_NO_VOLUMES.partition(';')[0]}", hint="use type=bind,source=DIRECTORY")
    if kind not in ("bind", "tmpfs"):
        raise UsageError(f"{where}: unknown type {kind!r}", hint="there are bind and tmpfs")
    target = _target(fields.pop("target", ""), where)
    try:
        readonly = parse_bool(fields.pop("readonly", "false"))
        if kind == "bind":
            return _bind(fields, target, where, readonly=readonly)
        size = parse_size(fields.pop("tmpfs-size", "0"))
        mode = int(fields.pop("tmpfs-mode", "1777"), 8)
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from None
    _nothing_left(fields, where)
    return Tmpfs(target, size, mode, readonly=readonly)


def _bind(fields: dict[str, str], target: str, where: str, *, readonly: bool) -> Bind:
    source = fields.pop("source", "")
    for key in ("bind-propagation", "consistency"):
        if fields.get(key, "") in _IGNORED:
            fields.pop(key)
    _nothing_left(fields, where)
    if not source:
        raise UsageError(f"{where} has no source", hint="write source=PATH")
    path = Path(source).absolute()
    if not path.exists():
        raise UsageError(f"{where}: {path} does not exist", hint="make it first; -v would, as a directory")
    return Bind(os.fspath(path), target, readonly=readonly)


def _nothing_left(fields: Mapping[str, str], where: str) -> None:
    if fields:
        raise UsageError(f"{where}: unknown field {next(iter(fields))!r}")


def tmpfs(text: str) -> Tmpfs:
    """``--tmpfs TARGET[:size=64m,mode=1777,ro,noexec]``; noexec unless it says ``exec``, as with docker."""
    target, _, options = text.partition(":")
    where = f"tmpfs {text!r}"
    size, mode, readonly, noexec = 0, 0o1777, False, True
    for word in filter(None, options.split(",")):
        key, _, value = word.partition("=")
        try:
            if key == "size":
                size = parse_size(value)
            elif key == "mode":
                mode = int(value, 8)
            elif key in ("ro", "rw"):
                readonly = key == "ro"
            elif key in ("exec", "noexec"):
                noexec = key == "noexec"
            elif key not in ("nosuid", "nodev"):
                raise UsageError(
                    f"{where}: unknown option {key!r}", hint="there are size, mode, ro, rw, exec and noexec"
                )
        except ValueError as error:
            raise UsageError(f"{where}: {error}") from None
    return Tmpfs(_target(target, where), size, mode, readonly=readonly, noexec=noexec)


def _target(path: str, where: str) -> str:
    normal = os.path.normpath(path) if path else ""
    if not normal.startswith("/") or normal.strip("/") == "":
        raise UsageError(f"{where}: the path in the container must be absolute, and not /")
    return "/" + normal.lstrip("/")


def environment(
    image: Iterable[str], files: Iterable[str], given: Iterable[str], caller: Mapping[str, str]
) -> tuple[tuple[str, str], ...]:
    """The image's variables, then those of ``--env-file``, then those of ``-e``.

    A name without ``=`` takes ``caller``'s value; where that has none either, the variable is not set.
    """
    values = dict(entry.partition("=")[::2] for entry in image)
    entries = [entry for name in files for entry in _env_file(name)]
    for entry in (*entries, *given):
        name, separator, value = entry.partition("=")
        if not name or "\0" in entry:
            raise UsageError(f"invalid environment variable {entry!r}", hint="write NAME=VALUE or NAME")
        if separator:
            values[name] = value
        elif name in caller:
            values[name] = caller[name]
        else:
            values.pop(name, None)
    return tuple(values.items())


def _env_file(name: str) -> list[str]:
    try:
        text = Path(name).read_text("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise UsageError(f"can't read --env-file {name}: {error.strerror}") from None
    lines = [line.lstrip() for line in text.splitlines()]
    found = [line for line in lines if line and not line.startswith("#")]
    for line in found:
        if re.search(r"\s", line.partition("=")[0]):
            raise UsageError(
                f"--env-file {name}: {line.partition('=')[0]!r} is not the name of a variable",
                hint="each line is NAME=VALUE, taken as it stands: no quotes, no export",
            )
    return found


def signal_number(text: str) -> int:
    """``TERM``, ``SIGTERM``, ``15``, ``RTMIN+3``."""
    name = text.upper().removeprefix("SIG")
    match = re.fullmatch(r"RT(MIN|MAX)(?:([+-])(\d+))?", name)
    number = None
    if name.isdecimal():
        number = int(name)
    elif match:
        base = signal.SIGRTMIN if match[1] == "MIN" else signal.SIGRTMAX
        number = base + int(f"{match[2] or '+'}{match[3] or 0}")
    elif "SIG" + name in signal.Signals.__members__:
        number = signal.Signals["SIG" + name].value
    if number not in signal.valid_signals():
        raise UsageError(f"unknown signal {text!r}", hint="such as TERM, KILL, HUP or 10")
    return int(number)
