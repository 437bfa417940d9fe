"""OPS: what a step does, as frozen descriptions. In: nothing. Out: values that `plan` makes and `solve` executes.

An op names other steps' files by `StepInput` and contexts by `ContextInput`; neither enters `digest`, since `solve`
adds the content of what they name to the cache key (BuildKit calls the like a CacheMap).
"""

from __future__ import annotations

import hashlib
from typing import Any

from layersmith.dataclass import dataclass, field, fields, is_dataclass
from layersmith.oci.process import Process

OP_VERSION = "layersmith.op.v1"


@dataclass(frozen=True, slots=True)
class ContextInput:
    """A local directory: ``main`` is the build context, anything else a ``--build-context``."""

    name: str = "main"


@dataclass(frozen=True, slots=True)
class StepInput:
    """The files of the plan's step ``step`` (an index into ``Plan.steps``)."""

    step: int = field(metadata={"identity": False})


Input = ContextInput | StepInput


# Sources of COPY and ADD


@dataclass(frozen=True, slots=True)
class PathSource:
    """``path`` (may hold wildcards) below an input's root."""

    path: str
    input: Input


@dataclass(frozen=True, slots=True)
class InlineSource:
    """A heredoc: a file ``name`` with ``data``."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class HttpSource:
    """ADD of an http(s) URL; ``checksum`` is ``sha256:…`` or None."""

    url: str
    checksum: str | None = None


@dataclass(frozen=True, slots=True)
class GitSource:
    """ADD of a git repository; ``url`` as written, with its ``#ref:subdir`` or query."""

    url: str
    checksum: str | None = None
    keep_git_dir: bool = False


CopySource = PathSource | InlineSource | HttpSource | GitSource


# Mounts of RUN (paths are absolute, values expanded)


@dataclass(frozen=True, slots=True)
class BindMount:
    """A directory or file of an input, read-only unless ``readonly`` is off (then writes are thrown away)."""

    target: str
    input: Input
    source: str = "/"
    readonly: bool = True


@dataclass(frozen=True, slots=True)
class CacheMount:
    """A directory that outlives the build. ``input``/``source`` give its first content."""

    target: str
    id: str = field(metadata={"identity": False})
    sharing: str = field(default="shared", metadata={"identity": False})
    input: Input | None = None
    source: str = "/"
    readonly: bool = False
    uid: int = 0
    gid: int = 0
    mode: int = 0o755


@dataclass(frozen=True, slots=True)
class TmpfsMount:
    """An empty tmpfs; ``size`` in bytes, 0 for the kernel's default."""

    target: str
    size: int = 0


@dataclass(frozen=True, slots=True)
class SecretMount:
    """A secret as a file (``target``), an environment variable (``env``), or both."""

    id: str
    target: str | None
    env: str | None = None
    required: bool = False
    uid: int = 0
    gid: int = 0
    mode: int = 0o400


@dataclass(frozen=True, slots=True)
class SshMount:
    """The caller's ssh agent as a socket at ``target``."""

    id: str
    target: str
    required: bool = False
    uid: int = 0
    gid: int = 0
    mode: int = 0o600


Mount = BindMount | CacheMount | TmpfsMount | SecretMount | SshMount


# Ops


@dataclass(frozen=True, slots=True)
class SourceOp:
    """The files of a base image, by the DiffIDs of its layers; no layers is scratch."""

    diff_ids: tuple[str, ...]
    name: str = field(default="scratch", metadata={"identity": False})


@dataclass(frozen=True, slots=True)
class ScriptFile:
    """A heredoc script that RUN mounts at ``path`` (BuildKit's /dev/pipes) with mode 0755."""

    path: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Privileges:
    """What a process may do besides what a sandbox's own may. ``capabilities`` as in capabilities(7); None: the default."""

    capabilities: tuple[str, ...] | None = None
    seccomp: bool = True
    no_new_privileges: bool = False


DEFAULT_PRIVILEGES = Privileges()


@dataclass(frozen=True, slots=True)
class ExecOp:
    """RUN: a process on a writable overlay of the parent's files."""

    process: Process
    mounts: tuple[Mount, ...] = ()
    scripts: tuple[ScriptFile, ...] = ()
    network: str = "default"
    security: str = "sandbox"
    hostname: str = ""
    hosts: tuple[str, ...] = ()
    """Names of ``--add-host``; the addresses are not part of the identity."""
    shm_size: int = 0
    ulimits: tuple[str, ...] = ()
    privileges: Privileges = DEFAULT_PRIVILEGES
    no_cache: bool = field(default=False, metadata={"identity": False})
    retry: int = field(default=0, metadata={"identity": False})
    timeout: float = field(default=0.0, metadata={"identity": False})
    """Seconds; 0 is none."""
    passed_env: tuple[tuple[str, str], ...] = field(default=(), metadata={"identity": False, "secret": True})
    """Proxy variables: in the environment, but neither in the key nor in the image."""


@dataclass(frozen=True, slots=True)
class CopyOp:
    """COPY and ADD. ``dest`` is absolute; its trailing slash, if any, is kept, for it has a meaning."""

    sources: tuple[CopySource, ...]
    dest: str
    chown: str | None = None
    chmod: str | None = None
    link: bool = False
    parents: bool = False
    excludes: tuple[str, ...] = ()
    add: bool = False
    """ADD: local archives are unpacked into the destination."""
    unpack: bool | None = None
    """``--unpack``: None is the default of each kind of source."""


@dataclass(frozen=True, slots=True)
class MkdirOp:
    """WORKDIR: make ``path`` (absolute) with its parents, mode 0755, owned by ``user`` (as in `Process`)."""

    path: str
    user: str = ""


Op = SourceOp | ExecOp | CopyOp | MkdirOp


def inputs(op: Op) -> tuple[Input, ...]:
    """The steps and contexts that the op reads, in the order in which it names them."""
    if isinstance(op, CopyOp):
        return tuple(s.input for s in op.sources if isinstance(s, PathSource))
    if isinstance(op, ExecOp):
        return tuple(
            m.input for m in op.mounts if isinstance(m, BindMount | CacheMount) and m.input is not None
        )
    return ()


def digest(op: Op) -> str:
    """``sha256:…`` over the op's identity: its type and all fields but those marked ``identity: False``."""
    hasher = hashlib.sha256(OP_VERSION.encode())
    hasher.update(repr(identity(op)).encode("utf-8", "surrogateescape"))
    return "sha256:" + hasher.hexdigest()


def identity(value: Any) -> Any:
    """What of an op enters its digest, as nested tuples of (field, value): also what ``explain`` compares."""
    if is_dataclass(value):
        return (
            type(value).__name__,
            tuple(
                (f.name, identity(getattr(value, f.name)))
                for f in fields(value)
                if f.metadata.get("identity", True)
            ),
        )
    if isinstance(value, tuple):
        return tuple(identity(v) for v in value)
    return value


def to_json(value: Any, *, identity: bool = False) -> Any:
    """``value`` (an op) as JSON, without what may be secret; with ``identity`` only what enters `digest`."""
    if is_dataclass(value):
        return {"type": type(value).__name__} | {
            f.name: to_json(getattr(value, f.name), identity=identity)
            for f in fields(value)
            if not f.metadata.get("secret") and (not identity or f.metadata.get("identity", True))
        }
    if isinstance(value, tuple):
        return [to_json(v, identity=identity) for v in value]
    if isinstance(value, bytes):
        if identity:
            return {"sha256": hashlib.sha256(value).hexdigest()}
        return {"bytes": value.decode("latin-1")}
    return value


def from_json(value: Any) -> Any:
    """The inverse of `to_json` of a whole op. Raises KeyError, TypeError on what is none."""
    if isinstance(value, list):
        return tuple(from_json(v) for v in value)
    if isinstance(value, dict):
        if "bytes" in value:
            return value["bytes"].encode("latin-1")
        known = _CLASSES[value["type"]]
        return known(**{name: from_json(v) for name, v in value.items() if name != "type"})
    return value


_CLASSES: dict[str, Any] = {
    known.__name__: known
    for known in (
        *(ContextInput, StepInput, Process, ScriptFile, Privileges),
        *(PathSource, InlineSource, HttpSource, GitSource),
        *(BindMount, CacheMount, TmpfsMount, SecretMount, SshMount),
        *(SourceOp, ExecOp, CopyOp, MkdirOp),
    )
}
