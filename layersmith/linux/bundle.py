"""A `Sandbox` as an OCI bundle's config.json. In: the sandbox, who its process is, its mounts. Out: a JSON value.

See runtime-spec's config.md and config-linux.md. Equal in effect to what `launch` does; where they differ, is said here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from layersmith.dataclass import dataclass
from layersmith.linux import caps, seccomp, syscalls
from layersmith.linux.execute import environment
from layersmith.linux.sandbox import Sandbox
from layersmith.linux.users import Identity

ARCHITECTURES: Final = {
    "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
}
EPERM, ENOSYS = 1, 38


@dataclass(frozen=True, slots=True)
class Prepared:
    """A mount of the host's side at ``source``, to be bound at ``target`` with ``options`` such as ``ro``."""

    source: str
    target: str
    options: tuple[str, ...] = ()


def config(
    sandbox: Sandbox,
    identity: Identity,
    mounts: Iterable[Prepared],
    *,
    permitted: int,
    cgroups_path: str | None,
    console_size: tuple[int, int],
    machine: str,
) -> dict[str, Any]:
    """The bundle's config; its root file system is ``rootfs`` beside it. ``machine`` as of uname(2); ``permitted`` are
    the capabilities that the caller has itself, as a bit set.

    An init is the runtime's business, so ``sandbox.init`` makes no difference: the process is PID 1.
    """
    linux: dict[str, Any] = {
        "namespaces": _namespaces(sandbox.network),
        "maskedPaths": list(sandbox.masked_paths),
        "readonlyPaths": list(sandbox.readonly_paths),
    }
    if cgroups_path is not None:
        linux["cgroupsPath"] = cgroups_path
    if sandbox.seccomp and not sandbox.insecure and machine in ARCHITECTURES:
        linux["seccomp"] = seccomp_profile(sandbox.capabilities, machine)
    process = _process(sandbox, identity, permitted)
    if sandbox.tty:
        process["consoleSize"] = dict(zip(("height", "width"), console_size, strict=True))
    return {
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": "rootfs", "readonly": sandbox.readonly_rootfs},
        "hostname": sandbox.hostname,
        "mounts": [*_system_mounts(sandbox), *(_bind(mount) for mount in mounts)],
        "linux": linux,
    }


def _process(sandbox: Sandbox, identity: Identity, permitted: int) -> dict[str, Any]:
    wanted = caps.ALL if sandbox.insecure else sandbox.capabilities
    granted = sorted(name for name in wanted if caps.bits([name]) & permitted)
    # As exec(2) would leave them to somebody else than root.
    effective = granted if identity.uid == 0 else []
    return {
        "terminal": sandbox.tty,
        "user": {"uid": identity.uid, "gid": identity.gid, "additionalGids": sorted(identity.groups)},
        "args": list(sandbox.process.args),
        "env": [f"{name}={value}" for name, value in environment(sandbox.process, identity).items()],
        "cwd": sandbox.process.cwd,
        "capabilities": {"bounding": granted, "effective": effective, "permitted": effective},
        "rlimits": [
            {
                "type": f"RLIMIT_{limit.name.upper()}",
                "soft": _unsigned(limit.soft),
                "hard": _unsigned(limit.hard),
            }
            for limit in sandbox.rlimits
        ],
        "noNewPrivileges": sandbox.no_new_privileges,
    }


def _unsigned(limit: int) -> int:
    return limit & (1 << 64) - 1


def _namespaces(network: str) -> list[dict[str, str]]:
    found = [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "cgroup")]
    if network == "none":
        found.append({"type": "network"})
    elif network != "host":
        found.append({"type": "network", "path": network})
    return found


def _system_mounts(sandbox: Sandbox) -> list[dict[str, Any]]:
    plain = ["nosuid", "noexec", "nodev"]
    shm = [*plain, "mode=1777", f"size={sandbox.shm_size}"]
    devpts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]
    kinds = (
        ("proc", "/proc", plain),
        ("tmpfs", "/dev", ["nosuid", "noexec", "strictatime", "mode=755", "size=65536k"]),
        ("devpts", "/dev/pts", devpts),
        ("tmpfs", "/dev/shm", shm),
        ("mqueue", "/dev/mqueue", plain),
        ("sysfs", "/sys", [*plain, "rw" if sandbox.insecure else "ro"]),
    )
    return [
        {"destination": target, "type": kind, "source": kind, "options": options}
        for kind, target, options in kinds
    ]


def _bind(mount: Prepared) -> dict[str, Any]:
    return {
        "destination": mount.target,
        "type": "bind",
        "source": mount.source,
        "options": ["rbind", "rprivate", *mount.options],
    }


def seccomp_profile(capabilities: frozenset[str], machine: str) -> dict[str, Any]:
    """`seccomp.program` in runtime-spec's terms, with what libseccomp can't say left out: where several values of one
    argument are refused (socket, ioctl), the most dangerous one is. What is refused, known or not, gives EPERM, but
    clone3, which C libraries have a way around."""
    refused = seccomp.refused(capabilities)
    names = {name for a in seccomp.COMPATIBLE[machine] for name in syscalls.numbers(a)} - refused
    rules: list[dict[str, Any]] = [
        {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [_compare(0, value, "SCMP_CMP_EQ")]}
        for value in seccomp.PERSONALITIES
    ]
    conditional = {
        "socket": _compare(0, seccomp.AF_VSOCK, "SCMP_CMP_NE"),
        "ioctl": _compare(1, seccomp.TIOCSTI, "SCMP_CMP_NE"),
    }
    if "CAP_SYS_ADMIN" not in capabilities:
        conditional["clone"] = _compare(0, seccomp.NEW_NAMESPACES, "SCMP_CMP_MASKED_EQ")
        rules.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS})
    rules += [
        {"names": [name], "action": "SCMP_ACT_ALLOW", "args": [condition]}
        for name, condition in conditional.items()
    ]
    allowed = sorted(names - conditional.keys() - {"personality", "clone3" if "clone" in conditional else ""})
    rules.append({"names": allowed, "action": "SCMP_ACT_ALLOW"})
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": EPERM,
        "architectures": list(ARCHITECTURES[machine]),
        "syscalls": rules,
    }


def _compare(index: int, value: int, operator: str) -> dict[str, Any]:
    """For a masked comparison ``value`` is the mask, and all of it has to be 0."""
    return {"index": index, "value": value, "valueTwo": 0, "op": operator}
