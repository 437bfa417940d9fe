"""The root of a container. In: a `Sandbox`. Out: a `Root` with everything mounted, ready to be pivoted to.

Runs in the sandbox's first process, in its own namespaces but still among the host's files. First all mounts are
opened, detached; then they are attached: attaching may cover what another one is made from.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from layersmith.linux import libc, terminal
from layersmith.linux.machine import Machine
from layersmith.linux.mounts import (
    DEVICES,
    NODEV,
    File,
    Mount,
    OverlayAt,
    SystemMount,
    cgroup_mounts,
    kernel_mounts,
)
from layersmith.linux.overlay import Overlay, open_overlay
from layersmith.linux.root import Root
from layersmith.linux.rooted import open_in_root
from layersmith.linux.sandbox import Sandbox

Now = Callable[[str], None]
"""Is told what is being done, for the report of a failure."""


def furnish(sandbox: Sandbox, machine: Machine, root: Root, now: Now) -> None:
    """Fill ``root``, which is still empty. Raises OSError, SandboxError."""
    kernel = system_mounts(sandbox, machine)
    own = own_mounts(sandbox)
    now("open the root file system")
    if isinstance(sandbox.rootfs, Overlay) and sandbox.rootfs.upper:
        root.upper = os.open(sandbox.rootfs.upper, os.O_PATH | os.O_CLOEXEC)
    rootfs = open_rootfs(sandbox)
    place = place_for(sandbox)
    opened = open_mounts((*kernel, *own), place, now)
    now("mount the root file system")
    libc.attach(rootfs, place)
    root.descriptor = os.open(place, os.O_PATH | os.O_CLOEXEC)
    for number, mount in enumerate((*kernel, *own)):
        now(mount.describe())
        root.attach(opened[number], mount.target)
        if number == len(kernel) - 1 and not (sandbox.insecure and not machine.rootless):
            enable_devices(root, now, bound=machine.rootless)
    hide(sandbox, root, now)
    root.forget_upper()


def system_mounts(sandbox: Sandbox, machine: Machine) -> tuple[SystemMount, ...]:
    """/proc, /dev, /sys and what is in them. The ten mounts of cgroup v1 only pay where there are limits to read."""
    trees = machine.cgroups
    return kernel_mounts(
        devpts_gid=machine.groups > terminal.TTY_GROUP,
        bound_devices=machine.rootless,
        sys_writable=sandbox.insecure,
        shm_size=sandbox.shm_size,
        cgroups=cgroup_mounts(trees) if trees == () or (trees and sandbox.cgroups) else (),
    )


def own_mounts(sandbox: Sandbox) -> tuple[Mount, ...]:
    """What the caller asked for, outer targets first."""
    given = (
        ("/etc/resolv.conf", sandbox.resolv_conf),
        ("/etc/hosts", sandbox.hosts),
        ("/etc/hostname", sandbox.etc_hostname),
    )
    files = (File(target, data) for target, data in given if data is not None)
    return (*sorted(sandbox.mounts, key=lambda m: m.target.rstrip("/").count("/")), *files)


def open_rootfs(sandbox: Sandbox) -> int:
    """Device nodes in it are dead: CAP_MKNOD, which Docker gives, would else open every disk."""
    attributes = 0 if sandbox.insecure else NODEV
    if isinstance(sandbox.rootfs, Overlay):
        return open_overlay(sandbox.rootfs, attributes)
    mounted = libc.open_tree(sandbox.rootfs, recursive=True)
    if attributes:
        libc.mount_setattr(mounted, attributes, recursive=True)
    return mounted


def place_for(sandbox: Sandbox) -> str:
    """A directory of the host to build on; what is below it is in use by this sandbox only."""
    if isinstance(sandbox.rootfs, str):
        return sandbox.rootfs
    return sandbox.rootfs.upper or (sandbox.rootfs.lowers[0] if sandbox.rootfs.lowers else "/sys")


def open_mounts(mounts: tuple[SystemMount | Mount, ...], place: str, now: Now) -> dict[int, int]:
    """A descriptor for each mount, by its number. Those that need a tmpfs to begin in come last: it covers ``place``,
    and is itself covered by the root file system, out of everybody's reach."""
    opened: dict[int, int] = {}
    for number, mount in enumerate(mounts):
        if not isinstance(mount, File | OverlayAt):
            now(mount.describe())
            opened[number] = mount.open()
    if len(opened) < len(mounts):
        now("mount a tmpfs for files")
        libc.attach(libc.new_mount("tmpfs", mode="0700"), place)
    for number, mount in enumerate(mounts):
        if isinstance(mount, File | OverlayAt):
            now(mount.describe())
            opened[number] = mount.open(place, str(number))
    return opened


def enable_devices(root: Root, now: Now, *, bound: bool) -> None:
    """Device nodes work only where they are mounts of their own: one that the container makes stays dead."""
    for name, _, _ in DEVICES:
        now(f"bind /dev/{name}")
        root.bind_device(name, f"/dev/{name}" if bound else None)
    directory = open_in_root(root.descriptor, "/dev", os.O_PATH)
    libc.mount_setattr(directory, NODEV)
    os.close(directory)


def hide(sandbox: Sandbox, root: Root, now: Now) -> None:
    """What of /proc and /sys tells of the host or changes it."""
    if not sandbox.masked_paths:
        return
    null = open_in_root(root.descriptor, "/dev/null", os.O_PATH, follow=False)
    for path in sandbox.masked_paths:
        now(f"mask {path}")
        root.mask(path, null)
    os.close(null)
    for path in sandbox.readonly_paths:
        now(f"make {path} read-only")
        root.set_readonly(path)
