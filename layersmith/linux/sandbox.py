"""`Sandbox`: all that surrounds a container's process, as one frozen value. Nothing happens here; `spawner` runs it."""

from __future__ import annotations

from dataclasses import dataclass

from layersmith.linux.mounts import Mount
from layersmith.linux.overlay import Overlay
from layersmith.oci.process import Process

DEFAULT_SHM_SIZE = 64 << 20

DEFAULT_CAPABILITIES = frozenset(
    (
        "CAP_AUDIT_WRITE",
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_KILL",
        "CAP_MKNOD",
        "CAP_NET_BIND_SERVICE",
        "CAP_NET_RAW",
        "CAP_SETFCAP",
        "CAP_SETGID",
        "CAP_SETPCAP",
        "CAP_SETUID",
        "CAP_SYS_CHROOT",
    )
)


@dataclass(frozen=True, slots=True)
class Rlimit:
    """``name`` as in ``--ulimit`` (``nofile``); ``soft`` and ``hard`` values, -1 for unlimited."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A process and its surroundings.

    ``rootfs``: an `Overlay`, or the path of a directory that is used (and written to) as it is.
    ``process.user`` is resolved in the rootfs. ``mounts`` come on top of /proc, /dev, /sys and the like, in order.
    ``network``: ``host``, ``none`` (loopback only), or the path of a network namespace.
    ``files``-like values are given by the caller: ``resolv_conf`` and ``hosts`` are the files' content (None: as in
    the rootfs). ``insecure``: all capabilities, no masks, /sys writable, no seccomp filter (``--security=insecure``).
    ``init``: PID 1 is a small reaper that forwards signals; else the process itself is PID 1, as in docker run.
    ``tty``: the process gets a terminal of the sandbox's own /dev/pts (`Running.terminal`).
    ``create_cwd``: make a missing working directory instead of failing.
    ``cgroups``: directories of control groups to join (`cgroups.Cgroup.directories`).
    """

    rootfs: Overlay | str
    process: Process
    mounts: tuple[Mount, ...] = ()
    hostname: str = "layersmith"
    network: str = "host"
    capabilities: frozenset[str] = DEFAULT_CAPABILITIES
    insecure: bool = False
    seccomp: bool = True
    no_new_privileges: bool = False
    readonly_rootfs: bool = False
    resolv_conf: bytes | None = None
    hosts: bytes | None = None
    shm_size: int = DEFAULT_SHM_SIZE
    rlimits: tuple[Rlimit, ...] = ()
    cgroups: tuple[str, ...] = ()
    init: bool = True
    tty: bool = False
    create_cwd: bool = False
