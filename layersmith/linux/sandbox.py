"""`Sandbox`: all that surrounds a container's process, as one frozen value. Nothing happens here; `spawner` runs it."""

from __future__ import annotations

from layersmith.dataclass import dataclass
from layersmith.errors import UsageError
from layersmith.linux import caps
from layersmith.linux.mounts import Mount
from layersmith.linux.overlay import Overlay
from layersmith.oci.process import Process

DEFAULT_SHM_SIZE = 64 << 20

DEFAULT_CAPABILITIES = caps.DEFAULT

MASKED_PATHS = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
"""Both as in moby/oci/defaults.go."""


@dataclass(frozen=True, slots=True)
class Rlimit:
    """``name`` as in ``--ulimit`` (``nofile``); ``soft`` and ``hard`` values, -1 for unlimited."""

    name: str
    soft: int
    hard: int

    @classmethod
    def parse(cls, text: str) -> Rlimit:
        """``NAME=SOFT[:HARD]``, as docker's ``--ulimit`` takes it. Raises UsageError."""
        name, _, values = text.partition("=")
        soft, separator, hard = values.partition(":")
        try:
            found = cls(name, _limit(soft), _limit(hard if separator else soft))
        except ValueError:
            raise UsageError(
                f"invalid ulimit {text!r}", hint="write NAME=SOFT[:HARD], such as nofile=1024:2048"
            ) from None
        found.number()
        return found

    def number(self) -> int:
        """The kernel's RLIMIT_ constant. Raises UsageError."""
        import resource

        number = getattr(resource, f"RLIMIT_{self.name.upper()}", None)
        if not isinstance(number, int):
            raise UsageError(
                f"unknown resource limit {self.name!r}", hint="see getrlimit(2): nofile, nproc, core, …"
            )
        return number


def _limit(text: str) -> int:
    return -1 if text in ("-1", "unlimited") else int(text)


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A process and its surroundings.

    ``rootfs``: an `Overlay`, or the path of a directory that is used (and written to) as it is.
    ``process.user`` is resolved in the rootfs. ``mounts`` come on top of /proc, /dev, /sys and the like, outer ones
    first. ``network``: ``host``, ``none`` (loopback only), or the path of a network namespace. ``resolv_conf``,
    ``hosts`` and ``etc_hostname`` are the content of those files (None: as in the rootfs).
    ``insecure``: all capabilities, no masks, /sys writable, device nodes work, no seccomp filter
    (``--security=insecure``). ``init``: PID 1 is a small reaper that forwards signals; else the process itself is
    PID 1, as in docker run without --init. ``tty``: the process gets a terminal of the sandbox's own /dev/pts
    (`Running.terminal`). ``create_cwd``: make a missing working directory instead of failing.
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
    etc_hostname: bytes | None = None
    shm_size: int = DEFAULT_SHM_SIZE
    rlimits: tuple[Rlimit, ...] = ()
    cgroups: tuple[str, ...] = ()
    init: bool = True
    tty: bool = False
    create_cwd: bool = False

    @property
    def upper(self) -> str | None:
        """The directory that takes the process' changes to the root file system, if it is known."""
        return self.rootfs if isinstance(self.rootfs, str) else self.rootfs.upper

    @property
    def masked_paths(self) -> tuple[str, ...]:
        return () if self.insecure else MASKED_PATHS

    @property
    def readonly_paths(self) -> tuple[str, ...]:
        return () if self.insecure else READONLY_PATHS
