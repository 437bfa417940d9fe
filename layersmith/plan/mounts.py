"""PLAN: ``RUN --mount``. In: a `MountFlag`, with variables. Out: the mount of an op.

Keys, defaults and what goes together: BuildKit, instructions/commands_runmount.go and dockerfile2llb/convert_*.go.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable

from layersmith import ops
from layersmith.buildfile.instructions import MountFlag
from layersmith.buildfile.suggest import did_you_mean, shown
from layersmith.buildfile.values import parse_bool, parse_size
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

_LARGEST = (1 << 32) - 1


def resolve(
    flags: Iterable[MountFlag],
    expand: Callable[[str], str],
    input_: Callable[[str | None], ops.Input],
    *,
    workdir: str,
    namespace: str = "",
) -> tuple[ops.Mount, ...]:
    """The mounts that a RUN's ``flags`` mean once ``expand`` has done their values.

    Relative targets are below ``workdir``. ``input_`` knows what a name in ``from`` stands for (a stage, an image or a
    context; None: the build context); variables in it are expanded, too, which BuildKit refuses. ``namespace`` is for
    the ids of cache mounts. Raises `PlanError` with the flag's span for a key or value that makes no sense, and what
    the functions raise.
    """
    mounts: list[ops.Mount] = []
    sockets = 0
    for flag in flags:
        fields = _Fields(flag, expand)
        kind = fields.choice("type", TYPES, "bind")
        fields.check_keys(kind)
        match kind:
            case "tmpfs":
                mounts.append(ops.TmpfsMount(_target(fields, workdir), fields.size("size")))
            case "secret":
                mounts.append(_secret(fields, workdir))
            case "ssh":
                mounts.append(_ssh(fields, workdir, sockets))
                sockets += 1
            case "cache":
                mounts.append(_cache(fields, workdir, input_, namespace))
            case _:
                mounts.append(_bind(fields, workdir, input_))
    return tuple(mounts)


def _bind(fields: _Fields, workdir: str, input_: Callable[[str | None], ops.Input]) -> ops.BindMount:
    readonly = fields.readonly(default=True)
    target = _target(fields, workdir)
    return ops.BindMount(target, input_(fields.text("from") or None), _source(fields), readonly)


def _cache(
    fields: _Fields, workdir: str, input_: Callable[[str | None], ops.Input], namespace: str
) -> ops.CacheMount:
    target = _target(fields, workdir)
    identity = fields.text("id") or target
    from_ = fields.text("from")
    return ops.CacheMount(
        target,
        f"{namespace}/{identity}" if namespace else identity,
        fields.choice("sharing", SHARINGS, "shared"),
        input_(from_) if from_ else None,
        _source(fields),
        fields.readonly(default=False),
        *fields.ownership(0o755),
    )


def _ssh(fields: _Fields, workdir: str, number: int) -> ops.SshMount:
    given = fields.text("target")
    target = _below(workdir, given) if given else f"/run/buildkit/ssh_agent.{number}"
    required = fields.switch("required")
    return ops.SshMount(fields.text("id") or "default", target, required, *fields.ownership(0o600))


def _secret(fields: _Fields, workdir: str) -> ops.SecretMount:
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
    return ops.SecretMount(identity, path, env, fields.switch("required"), *fields.ownership(0o400))


def _source(fields: _Fields) -> str:
    return posixpath.normpath("/" + fields.text("source")).replace("//", "/")


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
        return (self._number("uid", 10, 0), self._number("gid", 10, 0), self._number("mode", 8, mode))

    def _number(self, name: str, base: int, default: int) -> int:
        if name not in self.values:
            return default
        value = self.text(name)
        try:
            number = int(value, base) if value.isascii() and value.isdigit() else -1
        except ValueError:
            number = -1
        if 0 <= number <= _LARGEST:
            return number
        what = "an octal number" if base == 8 else "a number; names are not known here"
        raise self.error(f"invalid value {shown(value)} for {name} of a mount: it is not {what}")
