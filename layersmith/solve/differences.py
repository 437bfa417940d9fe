"""SOLVE: what differs between two operations. In: two ops of one kind as JSON (`ops.to_json`). Out: `Cause`s."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from layersmith.store.build_record import Cause

_OPTIONS = {
    "dest": "destination",
    "sources": "sources",
    "chown": "--chown",
    "chmod": "--chmod",
    "link": "--link",
    "parents": "--parents",
    "excludes": "--exclude",
    "unpack": "--unpack",
    "network": "--network",
    "security": "--security",
    "hostname": "hostname",
    "hosts": "--add-host",
    "shm_size": "--shm-size",
    "ulimits": "--ulimit",
    "path": "WORKDIR",
    "user": "USER",
    "cwd": "WORKDIR",
    "add": "ADD",
    "scripts": "heredoc",
}
"""What a person calls a field."""


def op_causes(old: dict[str, Any], new: dict[str, Any], arguments: set[str]) -> Iterator[Cause]:
    """The fields that differ; ``arguments`` are the variables that come from ARG rather than ENV."""
    for name in new:
        if name in ("type", "process", "mounts", "privileges") or old.get(name) == new[name]:
            continue
        yield Cause("option", _OPTIONS.get(name, name), _shown(old.get(name)), _shown(new[name]))
    if "process" in new:
        yield from _process_causes(old["process"], new["process"], arguments)
        yield from _mount_causes(old.get("mounts", []), new["mounts"])
        yield from _privilege_causes(old.get("privileges") or {}, new.get("privileges") or {})


def _process_causes(old: dict[str, Any], new: dict[str, Any], arguments: set[str]) -> Iterator[Cause]:
    if old["args"] != new["args"]:
        if old["args"][:-1] != new["args"][:-1] and old["args"][-1:] == new["args"][-1:]:
            yield Cause("option", "SHELL", " ".join(old["args"][:-1]), " ".join(new["args"][:-1]))
        else:
            yield Cause("command", "", _command(old["args"]), _command(new["args"]))
    before, after = dict(old["env"]), dict(new["env"])
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    for name in changed:
        kind = "arg" if name in arguments else "env"
        yield Cause(kind, name, _value(before, name), _value(after, name))
    if not changed and old["env"] != new["env"]:
        yield Cause("env", "the order of the variables")
    for name in ("cwd", "user"):
        if old[name] != new[name]:
            yield Cause("option", _OPTIONS[name], old[name], new[name])


def _command(args: list[str]) -> str:
    """The shell's text of a shell form, else all words."""
    return args[-1] if len(args) == 3 and args[1] == "-c" else " ".join(args)


def _value(env: dict[str, str], name: str) -> str:
    """``=value``, so that an empty value differs from none."""
    return f"={env[name]}" if name in env else ""


def _mount_causes(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> Iterator[Cause]:
    before = {_target(mount): mount for mount in old}
    after = {_target(mount): mount for mount in new}
    for target in {**before, **after}:
        one, other = before.get(target), after.get(target)
        if one is None or other is None or one["type"] != other["type"]:
            yield Cause("mount", target, _kind(one), _kind(other))
            continue
        fields = [name for name in other if one.get(name) != other[name]]
        if fields:
            yield Cause(
                "mount",
                target,
                ",".join(_field(name, one.get(name)) for name in fields),
                ",".join(_field(name, other[name]) for name in fields),
            )
    if before == after and old != new:
        yield Cause("mount", "the order of the mounts")


def _field(name: str, value: Any) -> str:
    return f"{name}={value:04o}" if name == "mode" and isinstance(value, int) else f"{name}={_shown(value)}"


def _target(mount: dict[str, Any]) -> str:
    return str(mount.get("target") or mount.get("env") or mount.get("id"))


def _kind(mount: dict[str, Any] | None) -> str:
    return "" if mount is None else str(mount["type"]).removesuffix("Mount").lower()


def _privilege_causes(old: dict[str, Any], new: dict[str, Any]) -> Iterator[Cause]:
    for name in new:
        if name != "type" and old.get(name) != new[name]:
            yield Cause("option", name.replace("_", "-"), _shown(old.get(name)), _shown(new[name]))


def _shown(value: Any) -> str:
    """A field's value in one line."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return str(value).lower()
    if isinstance(value, dict):
        if "path" in value and "input" in value:
            return str(value["path"])
        if "sha256" in value:
            return f"sha256:{value['sha256'][:12]}"
        return str(value.get("url") or value.get("name") or json.dumps(value, sort_keys=True))
    return " ".join(_shown(item) for item in value)
