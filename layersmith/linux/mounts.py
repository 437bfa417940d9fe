"""A sandbox's mounts as data. Each value says what it is (`describe`) and opens itself as a detached mount (`open`).

Targets are absolute paths in the container, resolved inside its root by `root.Root`, which attaches what `open` gave;
missing mount points are made there, and removed after the process ended if nobody used them.
"""

from __future__ import annotations

import errno
import os
import stat

from layersmith.dataclass import dataclass, field
from layersmith.linux import libc
from layersmith.linux.overlay import Overlay, mount_overlay
from layersmith.linux.rooted import open_in_root

NOSUID, NODEV, NOEXEC, RDONLY = (
    libc.MOUNT_ATTR_NOSUID,
    libc.MOUNT_ATTR_NODEV,
    libc.MOUNT_ATTR_NOEXEC,
    libc.MOUNT_ATTR_RDONLY,
)

DEVICES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))
DEVICE_LINKS = (
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
)


@dataclass(frozen=True, slots=True)
class Bind:
    """The host's ``source`` (directory, file, socket) at ``target``, with the mounts below it.

    ``inside`` is a path within ``source``, its symlinks contained there: for a part of a hostile tree. Device nodes
    in it do not work, unless ``devices``.
    """

    source: str
    target: str
    readonly: bool = False
    inside: str = "/"
    devices: bool = False

    def describe(self) -> str:
        part = self.inside if self.inside != "/" else ""
        return f"bind {self.source}{part} on {self.target}{' read-only' if self.readonly else ''}"

    def open(self) -> int:
        attributes = (RDONLY if self.readonly else 0) | (0 if self.devices else NODEV)
        mounted = part(self.source, self.inside)
        if attributes:
            libc.mount_setattr(mounted, attributes, recursive=True)
        return mounted


@dataclass(frozen=True, slots=True)
class OverlayAt:
    """An overlay at ``target``: a RUN bind mount with ``rw``, whose writes are thrown away with its upper directory."""

    overlay: Overlay
    target: str
    inside: str = "/"
    readonly: bool = False

    def describe(self) -> str:
        return f"mount {self.overlay.describe()} on {self.target}"

    def open(self, scratch: str, name: str) -> int:
        """By way of the directory ``name`` in ``scratch``, the path of a tmpfs that nobody else sees: part of a
        mount can be taken only where it is attached."""
        point = f"{scratch}/{name}"
        os.mkdir(point)
        mount_overlay(self.overlay, point)
        mounted = part(point, self.inside)
        libc.mount_setattr(mounted, NODEV | (RDONLY if self.readonly else 0), recursive=True)
        return mounted


@dataclass(frozen=True, slots=True)
class Tmpfs:
    """An empty tmpfs; ``size`` in bytes (0: half of memory, the kernel's default)."""

    target: str
    size: int = 0
    mode: int = 0o1777
    readonly: bool = False
    noexec: bool = False

    def describe(self) -> str:
        return f"mount tmpfs on {self.target}"

    def open(self) -> int:
        attributes = NOSUID | NODEV | (RDONLY if self.readonly else 0) | (NOEXEC if self.noexec else 0)
        size = {"size": str(self.size)} if self.size else {}
        return libc.new_mount("tmpfs", attributes, mode=f"{self.mode:o}", **size)


@dataclass(frozen=True, slots=True)
class File:
    """A file of ``data``, kept in memory only, at ``target`` (secrets, resolv.conf, scripts)."""

    target: str
    data: bytes = field(repr=False)
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    readonly: bool = False

    def describe(self) -> str:
        return f"bind a file of {len(self.data)} bytes on {self.target}"

    def open(self, scratch: str, name: str) -> int:
        """Written as ``name`` into ``scratch``, the path of a tmpfs that nobody else sees."""
        path = f"{scratch}/{name}"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(self.data)
            while view:
                view = view[os.write(file, view) :]
            if (self.uid, self.gid) != (0, 0):
                os.fchown(file, self.uid, self.gid)
            os.fchmod(file, self.mode)
        finally:
            os.close(file)
        mounted = libc.open_tree(path)
        libc.mount_setattr(mounted, NOSUID | NODEV | (RDONLY if self.readonly else 0))
        return mounted


Mount = Bind | OverlayAt | Tmpfs | File


# What every sandbox has


@dataclass(frozen=True, slots=True)
class FileSystem:
    """One of the kernel's own file systems, in the namespaces of the calling process."""

    kind: str
    target: str
    attributes: int
    options: tuple[tuple[str, str | None], ...] = ()

    def describe(self) -> str:
        return f"mount {self.kind} on {self.target}"

    def open(self) -> int:
        return libc.new_mount(self.kind, self.attributes, **dict(self.options))


@dataclass(frozen=True, slots=True)
class Sysfs:
    """/sys; where the network namespace is somebody else's, its owner alone may mount one, so the host's is bound."""

    target: str
    readonly: bool

    def describe(self) -> str:
        return f"mount sysfs on {self.target}"

    def open(self) -> int:
        attributes = NOSUID | NODEV | NOEXEC | (RDONLY if self.readonly else 0)
        try:
            return libc.new_mount("sysfs", attributes)
        except OSError as error:
            if error.errno != errno.EPERM:
                raise
        mounted = libc.open_tree("/sys", recursive=True)
        libc.mount_setattr(mounted, attributes, recursive=True)
        return mounted


@dataclass(frozen=True, slots=True)
class Devices:
    """/dev: a tmpfs with the nodes of `DEVICES`. ``bound``: they are the host's, for who may not mknod (rootless)."""

    target: str
    bound: bool

    def describe(self) -> str:
        return f"mount tmpfs with devices on {self.target}"

    def open(self) -> int:
        mounted = libc.new_mount("tmpfs", NOSUID | NOEXEC, mode="0755", size="65536k")
        for name, major, minor in DEVICES:
            if self.bound:
                os.close(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o666, dir_fd=mounted))
            else:
                os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(major, minor), dir_fd=mounted)
        for name, destination in DEVICE_LINKS:
            os.symlink(destination, name, dir_fd=mounted)
        for name in ("pts", "shm", "mqueue"):
            os.mkdir(name, dir_fd=mounted)
        return mounted


def kernel_mounts(
    *,
    devpts_gid: bool,
    bound_devices: bool,
    sys_writable: bool,
    shm_size: int,
    cgroups: tuple[FileSystem, ...] = (),
) -> tuple[SystemMount, ...]:
    """/proc, /dev and /sys as Docker's default specification has them (moby/oci/defaults.go).

    ``devpts_gid``: group 5 (tty) exists in this user namespace. ``cgroups``: see `cgroup_mounts`.
    """
    devpts = (("newinstance", None), ("ptmxmode", "0666"), ("mode", "0620"))
    return (
        FileSystem("proc", "/proc", NOSUID | NODEV | NOEXEC),
        Devices("/dev", bound_devices),
        FileSystem("devpts", "/dev/pts", NOSUID | NOEXEC, (*devpts, ("gid", "5")) if devpts_gid else devpts),
        FileSystem("tmpfs", "/dev/shm", NOSUID | NODEV | NOEXEC, (("mode", "1777"), ("size", str(shm_size)))),
        FileSystem("mqueue", "/dev/mqueue", NOSUID | NODEV | NOEXEC),
        Sysfs("/sys", not sys_writable),
        *cgroups,
    )


def cgroup_mounts(controllers: tuple[str, ...]) -> tuple[FileSystem, ...]:
    """/sys/fs/cgroup, read-only: version 2's one tree for no ``controllers``, else version 1's tree of each.

    What is mounted is the calling process' cgroup namespace: its own groups, and none of the host's.
    """
    flags = NOSUID | NODEV | NOEXEC
    top = "/sys/fs/cgroup"
    if not controllers:
        return (FileSystem("cgroup2", top, flags | RDONLY),)
    trees = (FileSystem("cgroup", f"{top}/{c}", flags | RDONLY, ((c, None),)) for c in controllers)
    return (FileSystem("tmpfs", top, flags, (("mode", "0755"),)), *trees)


SystemMount = FileSystem | Sysfs | Devices


def part(source: str, inside: str) -> int:
    """A detached copy of the mounts from ``inside`` ``source`` on, its symlinks resolved within ``source``."""
    if inside == "/":
        return libc.open_tree(source, recursive=True)
    root = os.open(source, os.O_PATH | os.O_CLOEXEC)
    try:
        found = open_in_root(root, inside, os.O_PATH)
        try:
            return libc.open_tree("", dir_fd=found, recursive=True)
        finally:
            os.close(found)
    finally:
        os.close(root)
