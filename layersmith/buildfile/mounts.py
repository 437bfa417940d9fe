"""PARSE: the values of ``RUN --mount``. In: a `MountFlag` with variables. Out: a typed mount, without its input.

Keys, defaults and what goes together: BuildKit, instructions/commands_runmount.go and dockerfile2llb/convert_*.go.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable

from layersmith.buildfile.instructions import MountFlag
from layersmith.buildfile.suggest import did_you_mean, shown
from layersmith.buildfile.values import parse_bool, parse_size
from layersmith.dataclass import dataclass
from layersmith.errors import PlanError

SECRETS = "/run/secrets/"

TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
SHARINGS = ("shared", "private", "locked")

_ALIASES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly", "rw": "readwrite"}
_SWITCHES = ("readonly", "readwrite", "required")
_KEYS = {
    "bind": ("type", "from", "source", "target", "readonly", "readwrite"),
    "cache": (
        "type",
        "from",
        "source",
        "target",
        "readonly",
        "readwrite",
        "id",
        "sharing",
        "uid",
        "gid",
        "mode",
    ),
    "tmpfs": ("type", "target", "size"),
    "secret": ("type", "source", "target", "id", "env", "required", "uid", "gid", "mode"),
    "ssh": ("type", "target", "id", "required", "uid", "gid", "mode"),
}
_TOLERATED = ("from", "source", "id", "readonly", "readwrite")
"""Keys that BuildKit takes on any mount, and has no use for on some."""

_NUMBER = re.compile(r"[0-9]{1,10}")
_OCTAL = re.compile(r"[0-7]{1,11}")
_LARGEST = (1 << 32) - 1


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

    Variables in ``from`` are expanded too (BuildKit refuses them). Raises `PlanError` with the flag's span for a key or
    value that makes no sense, and what ``expand`` raises.
    """
    fields = _Fields(flag, expand)
    kind = fields.choice("type", TYPES, "bind")
    fields.check_keys(kind)
    if kind == "tmpfs":
        return Tmpfs(_target(fields, workdir), fields.size("size"))
    if kind == "secret":
        return _secret(fields, workdir)
    required = fields.switch("required")
    if kind == "ssh":
        given = fields.text("target")
        return Ssh(
            fields.text("id") or "default",
            _below(workdir, given) if given else None,
            required,
            *fields.ownership(0o600),
        )
    source = posixpath.normpath("/" + fields.text("source")).replace("//", "/")
    from_ = fields.text("from") or None
    target = _target(fields, workdir)
    if kind == "bind":
        return Bind(target, source, from_, fields.readonly(default=True))
    return Cache(
        target,
        fields.text("id") or target,
        fields.choice("sharing", SHARINGS, "shared"),
        from_,
        source,
        fields.readonly(default=False),
        *fields.ownership(0o755),
    )


def _secret(fields: _Fields, workdir: str) -> Secret:
    name, source, target = fields.text("id"), fields.text("source"), fields.text("target")
    if name and source:
        raise fields.error("both source and id can't be set on a secret mount", "they mean the same; keep id")
    if not (name or source or target):
        raise fields.error(
            "invalid secret mount: it has no id, source or target", "write --mount=type=secret,id=NAME"
        )
    identity = name or source or posixpath.basename(target)
    env = fields.text("env") or None
    if target:
        path: str | None = _below(workdir, target)
    else:
        path = None if env else SECRETS + posixpath.basename(identity)
    return Secret(identity, path, env, fields.switch("required"), *fields.ownership(0o400))


def _target(fields: _Fields, workdir: str) -> str:
    target = _below(workdir, fields.text("target"))
    if target == "/":
        raise fields.error("invalid mount target '/'", "name a directory below it: --mount=…,target=/path")
    return target


def _below(workdir: str, path: str) -> str:
    return posixpath.normpath(posixpath.join("/", workdir, path)).replace("//", "/")


class _Fields:
    """A flag's fields by key, expanded; the last of a key wins."""

    def __init__(self, flag: MountFlag, expand: Callable[[str], str]) -> None:
        self.flag = flag
        self.values: dict[str, str | None] = {}
        self.written: dict[str, str] = {}
        for key, value in flag.fields:
            name = _ALIASES.get(key, key)
            if value is None and name not in _SWITCHES:
                raise self.error(f"invalid field {shown(key)} in a mount: it must be a key=value pair")
            if name in ("readonly", "readwrite"):
                self.values.pop("readonly", None)
                self.values.pop("readwrite", None)
            self.values[name] = None if value is None else expand(value)
            self.written[name] = key

    def error(self, message: str, hint: str = "") -> PlanError:
        return PlanError(message, hint=hint, span=self.flag.span)

    def check_keys(self, kind: str) -> None:
        allowed = _KEYS[kind]
        for name, key in self.written.items():
            if name in allowed or (name in _TOLERATED and not (kind == "secret" and name == "from")):
                continue
            known = [*allowed, *(alias for alias, full in _ALIASES.items() if full in allowed)]
            hint = did_you_mean(key, known) or f"a {kind} mount has " + ", ".join(allowed[1:])
            raise self.error(f"unexpected key {shown(key)} in a mount of type {kind}", hint)

    def text(self, name: str) -> str:
        return self.values.get(name) or ""

    def choice(self, name: str, known: tuple[str, ...], default: str) -> str:
        if name not in self.values:
            return default
        value = self.text(name)
        if value.lower() not in known:
            hint = did_you_mean(value, known) or "known are " + ", ".join(known)
            raise self.error(f"unsupported mount {name} {shown(value)}", hint)
        return value.lower()

    def switch(self, name: str) -> bool:
        """False where it is not given, True where it stands without a value."""
        if name not in self.values:
            return False
        value = self.values[name]
        try:
            return value is None or parse_bool(value)
        except ValueError as error:
            raise self.error(f"invalid value for {self.written[name]} of a mount: {error}") from None

    def readonly(self, *, default: bool) -> bool:
        if "readonly" in self.values:
            return self.switch("readonly")
        if "readwrite" in self.values:
            return not self.switch("readwrite")
        return default

    def size(self, name: str) -> int:
        if name not in self.values:
            return 0
        try:
            return parse_size(self.text(name))
        except ValueError as error:
            raise self.error(f"invalid value for {name} of a mount: {error}") from None

    def ownership(self, mode: int) -> tuple[int, int, int]:
        """(uid, gid, mode), with ``mode`` for a mode that is not given."""
        return (
            self._number("uid", _NUMBER, 10, 0),
            self._number("gid", _NUMBER, 10, 0),
            self._number("mode", _OCTAL, 8, mode),
        )

    def _number(self, name: str, pattern: re.Pattern[str], base: int, default: int) -> int:
        if name not in self.values:
            return default
        value = self.text(name)
        if pattern.fullmatch(value) and int(value, base) <= _LARGEST:
            return int(value, base)
        what = "an octal number" if base == 8 else "a number; names are not known here"
        raise self.error(f"invalid value {shown(value)} for {name} of a mount: it is not {what}")
