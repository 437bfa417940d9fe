"""From clone to exec. In: a `Sandbox`, and what the spawner knows of this machine. Runs in the sandbox's first process.

The order is bubblewrap's and runc's: namespaces, then every mount opened while the host's files are in sight, then the
root furnished, pivot_root, and at last identity, seccomp filter and capabilities (`execute`). Whatever fails is told
to the caller over ``channel`` as (what was being done, path, errno).
"""

from __future__ import annotations

import errno
import marshal
import os
import resource
import signal
import socket
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Never

from layersmith.errors import LayersmithError
from layersmith.linux import caps, execute, libc, netns, pid1, terminal
from layersmith.linux.cgroups import Hierarchy, hierarchies
from layersmith.linux.execute import Privileges
from layersmith.linux.mounts import (
    DEVICES,
    NODEV,
    RDONLY,
    File,
    FileSystem,
    Mount,
    OverlayAt,
    SystemMount,
    cgroup_mounts,
    kernel_mounts,
)
from layersmith.linux.overlay import Overlay, open_overlay
from layersmith.linux.root import Root
from layersmith.linux.rooted import open_in_root, read_in_root
from layersmith.linux.sandbox import Sandbox
from layersmith.linux.users import Identity, resolve_user
from layersmith.oci.process import Process

NAMESPACES = libc.CLONE_NEWNS | libc.CLONE_NEWPID | libc.CLONE_NEWIPC | libc.CLONE_NEWUTS


@dataclass(frozen=True, slots=True)
class Machine:
    """What is the same for all sandboxes of a spawner, found out once, before the first.

    ``groups``: how many group ids exist in this user namespace, from 0 on. ``setgroups``: whether supplementary
    groups may be set. ``permitted``: the spawner's own capabilities. ``cgroups``: whether /sys/fs/cgroup is to be
    mounted, and the controllers of version 1, none for version 2.
    """

    rootless: bool
    groups: int
    setgroups: bool
    permitted: int
    last_capability: int
    cgroups: tuple[str, ...] | None

    @classmethod
    def inspect(cls) -> Machine:
        rows = [line.split() for line in Path("/proc/self/gid_map").read_text().splitlines()]
        groups = sum(int(row[2]) for row in rows)
        return cls(
            rootless=groups < (1 << 32) - 1,
            groups=groups,
            setgroups=Path("/proc/self/setgroups").read_text().strip() == "allow",
            permitted=libc.capget()[1],
            last_capability=int(Path("/proc/sys/kernel/cap_last_cap").read_text()),
            cgroups=_cgroups(hierarchies(), rootless=groups < (1 << 32) - 1),
        )


@dataclass(frozen=True, slots=True)
class Streams:
    """Descriptors for the process' 0, 1 and 2, and the socket on which set-up is reported."""

    stdin: int
    stdout: int
    stderr: int
    channel: int


def privileges(sandbox: Sandbox, machine: Machine, program: bytes) -> Privileges:
    """What ``sandbox``'s process may have; nothing that the spawner itself lacks."""
    wanted = caps.ALL if sandbox.insecure else sandbox.capabilities
    bounding = caps.bits(wanted) & machine.permitted
    return Privileges(bounding, machine.last_capability, program, sandbox.no_new_privileges)


def _cgroups(trees: tuple[Hierarchy, ...], *, rootless: bool) -> tuple[str, ...] | None:
    """See `Machine.cgroups`. Of a hybrid machine's two versions the first has the controllers."""
    first = tuple(sorted(c for t in trees if t.version == 1 for c in t.controllers if "=" not in c))
    if first:
        return None if rootless else first
    return () if trees else None


def clone_flags(sandbox: Sandbox) -> int:
    """The namespaces to clone into. The cgroup namespace comes later: its root is the group that was joined."""
    return NAMESPACES | (libc.CLONE_NEWNET if sandbox.network == "none" else 0)


class Launch:
    """One launch, in the process that `libc.clone` made; `sandbox` and `join` do not return.

    ``doing`` is the step under way, for the report.
    """

    def __init__(
        self, sandbox: Sandbox, process: Process, machine: Machine, may: Privileges, streams: Streams
    ) -> None:
        self.sandbox = sandbox
        self.process = process
        self.machine = machine
        self.may = may
        self.streams = streams
        self.channel = socket.socket(fileno=streams.channel)
        self.doing = "start"
        self.root: Root | None = None

    def launch(self) -> Never:
        """Furnish the sandbox and run its process."""
        self._reporting(self._launch)

    def enter(self, target: int) -> Never:
        """Run the process in the namespaces of the process that the pidfd ``target`` refers to."""
        self._reporting(lambda: self._enter(target))

    def run_program(self) -> Never:
        """Execute the process as it is, among the host's files and with the spawner's privileges."""

        def steps() -> Never:
            libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
            self._tell("ready")
            self._connect()
            execute.run(self.process.args, os.environ)

        self._reporting(steps)

    def _reporting(self, steps: Callable[[], Never]) -> Never:
        try:
            steps()
        except LayersmithError as error:
            self._tell("refused", type(error).__name__, error.message, error.hint)
        except OSError as error:
            path = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
            self._tell("failed", self.doing, path, error.errno or 0, error.strerror or str(error))
        except BaseException as error:  # a defect, but the caller must hear of it
            self._tell("failed", self.doing, "", 0, f"{type(error).__name__}: {error}")
        os._exit(1)

    def _tell(self, *message: str | int, descriptors: tuple[int, ...] = ()) -> None:
        stubs = tuple(astuple(stub) for stub in self.root.stubs) if self.root else ()
        socket.send_fds(self.channel, [marshal.dumps((message, stubs))], descriptors)

    def _launch(self) -> Never:
        self._leave_host()
        identity = self._furnish()
        slave = -1
        if self.sandbox.tty:
            slave = self._open_terminal(identity)
        self._pivot()
        self._finish(identity, slave)

    def _enter(self, target: int) -> Never:
        self.doing = "enter the sandbox"
        self._join_cgroups()
        # The host's network namespace is not this user's to enter; the process is in there anyway.
        network = libc.CLONE_NEWNET if self.sandbox.network != "host" else 0
        libc.setns(target, NAMESPACES | libc.CLONE_NEWCGROUP | network)
        os.close(target)
        libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
        os.setsid()
        os.umask(0o022)
        top = os.open("/", os.O_PATH | os.O_CLOEXEC)
        identity = self._identity(top)
        slave = -1
        if self.sandbox.tty:
            self.root = Root(top, -1)
            slave = self._open_terminal(identity)
        self._finish(identity, slave, fork=True)

    def _leave_host(self) -> None:
        """All namespaces that clone did not make, and the ties to the caller's session and keys."""
        libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
        libc.prctl(libc.PR_SET_DUMPABLE, 0)
        os.setsid()
        os.umask(0)
        self._join_cgroups()
        self.doing = "create a cgroup namespace"
        libc.unshare(libc.CLONE_NEWCGROUP)
        self.doing = f"set the host name to {self.sandbox.hostname}"
        libc.sethostname(self.sandbox.hostname)
        if self.sandbox.network == "none":
            self.doing = "bring up the loopback interface"
            netns.loopback_up()
        elif self.sandbox.network != "host":
            self.doing = f"join the network namespace {self.sandbox.network}"
            netns.join(self.sandbox.network)
        self.doing = "make all mounts private"
        libc.mount(None, "/", None, libc.MS_REC | libc.MS_PRIVATE)
        self.doing = "create a session keyring"
        try:
            libc.join_new_session_keyring()
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EDQUOT):
                raise

    def _join_cgroups(self) -> None:
        for directory in self.sandbox.cgroups:
            self.doing = f"join the control group {directory}"
            group = os.open(f"{directory}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
            os.write(group, b"0")
            os.close(group)

    def _furnish(self) -> Identity:
        """Everything below the new root. First all mounts are opened, detached: attaching may cover a source."""
        sandbox = self.sandbox
        upper = -1
        if isinstance(sandbox.rootfs, Overlay) and sandbox.rootfs.upper:
            upper = os.open(sandbox.rootfs.upper, os.O_PATH | os.O_CLOEXEC)
        self.doing = "open the root file system"
        rootfs = self._open_rootfs()
        kernel = kernel_mounts(
            devpts_gid=self.machine.groups > terminal.TTY_GROUP,
            bound_devices=self.machine.rootless,
            sys_writable=sandbox.insecure,
            shm_size=sandbox.shm_size,
            cgroups=self._cgroup_mounts(),
        )
        own = (*sorted(sandbox.mounts, key=lambda m: m.target.rstrip("/").count("/")), *self._files())
        place = self._place()
        opened = self._open_mounts((*kernel, *own), place)
        self.doing = "mount the root file system"
        self._attach(rootfs, place)
        root = self.root = Root(os.open(place, os.O_PATH | os.O_CLOEXEC), upper)
        for number, mount in enumerate((*kernel, *own)):
            self.doing = mount.describe()
            root.attach(opened[number], mount.target)
            if number == len(kernel) - 1:
                self._enable_devices(root)
        self._hide(root)
        identity = self._identity(root.descriptor)
        if sandbox.create_cwd:
            self.doing = f"create the working directory {self.process.cwd}"
            root.make_directories(self.process.cwd, identity.uid, identity.gid)
        if sandbox.readonly_rootfs:
            self.doing = "make the root file system read-only"
            libc.mount_setattr(root.descriptor, RDONLY)
        return identity

    def _cgroup_mounts(self) -> tuple[FileSystem, ...]:
        """Version 1 takes ten mounts, which only pay where there are limits to be read in there."""
        trees = self.machine.cgroups
        return cgroup_mounts(trees) if trees == () or (trees and self.sandbox.cgroups) else ()

    def _files(self) -> list[File]:
        given = (
            ("/etc/resolv.conf", self.sandbox.resolv_conf),
            ("/etc/hosts", self.sandbox.hosts),
            ("/etc/hostname", self.sandbox.etc_hostname),
        )
        return [File(target, data) for target, data in given if data is not None]

    def _open_mounts(self, mounts: tuple[SystemMount | Mount, ...], place: str) -> dict[int, int]:
        """A descriptor for each mount, by its number. Those that need a tmpfs to begin in come last: it covers
        ``place``, and is itself covered by the root file system, out of everybody's reach."""
        opened: dict[int, int] = {}
        for number, mount in enumerate(mounts):
            if not isinstance(mount, File | OverlayAt):
                self.doing = mount.describe()
                opened[number] = mount.open()
        if len(opened) < len(mounts):
            self.doing = "mount a tmpfs for files"
            self._attach(libc.new_mount("tmpfs", mode="0700"), place)
        for number, mount in enumerate(mounts):
            if isinstance(mount, File | OverlayAt):
                self.doing = mount.describe()
                opened[number] = mount.open(place, str(number))
        return opened

    def _open_rootfs(self) -> int:
        """Device nodes in it are dead: CAP_MKNOD, which Docker gives, would else open every disk."""
        attributes = 0 if self.sandbox.insecure else NODEV
        if isinstance(self.sandbox.rootfs, Overlay):
            return open_overlay(self.sandbox.rootfs, attributes)
        mounted = libc.open_tree(self.sandbox.rootfs, recursive=True)
        if attributes:
            libc.mount_setattr(mounted, attributes, recursive=True)
        return mounted

    def _place(self) -> str:
        """A directory of the host to build on; what is below it is in use by this sandbox only."""
        rootfs = self.sandbox.rootfs
        if isinstance(rootfs, str):
            return rootfs
        return rootfs.upper or (rootfs.lowers[0] if rootfs.lowers else "/sys")

    @staticmethod
    def _attach(mounted: int, path: str) -> None:
        point = os.open(path, os.O_PATH | os.O_CLOEXEC)
        libc.move_mount(mounted, point)
        os.close(point)
        os.close(mounted)

    def _enable_devices(self, root: Root) -> None:
        """Device nodes work only where they are mounts of their own: one that the container makes stays dead."""
        if self.sandbox.insecure and not self.machine.rootless:
            return
        for name, _, _ in DEVICES:
            self.doing = f"bind /dev/{name}"
            root.bind_device(name, f"/dev/{name}" if self.machine.rootless else None)
        directory = open_in_root(root.descriptor, "/dev", os.O_PATH)
        libc.mount_setattr(directory, NODEV)
        os.close(directory)

    def _hide(self, root: Root) -> None:
        if not self.sandbox.masked_paths:
            return
        null = open_in_root(root.descriptor, "/dev/null", os.O_PATH, follow=False)
        for path in self.sandbox.masked_paths:
            self.doing = f"mask {path}"
            root.mask(path, null)
        os.close(null)
        for path in self.sandbox.readonly_paths:
            self.doing = f"make {path} read-only"
            root.set_readonly(path)

    def _identity(self, top: int) -> Identity:
        self.doing = f"look up the user {self.process.user}"
        return resolve_user(
            self.process.user, read_in_root(top, "etc/passwd"), read_in_root(top, "etc/group")
        )

    def _open_terminal(self, identity: Identity) -> int:
        """The process' end; the caller's is sent to it with the report."""
        self.doing = "open a terminal"
        assert self.root is not None
        devpts = open_in_root(self.root.descriptor, "/dev/pts", os.O_PATH | os.O_DIRECTORY)
        controller, slave = terminal.open_pair(devpts)
        if self.machine.groups > terminal.TTY_GROUP:
            os.fchown(slave, identity.uid, terminal.TTY_GROUP)
        self._tell("terminal", descriptors=(controller,))
        os.close(controller)
        os.close(devpts)
        return slave

    def _pivot(self) -> None:
        self.doing = "pivot_root"
        assert self.root is not None
        # Entering one's own mount namespace leads to its true root. Where layersmith itself lives in a chroot, the
        # host's files above that would else stay within reach of the container's own chroot(2).
        myself = os.pidfd_open(os.getpid())
        libc.setns(myself, libc.CLONE_NEWNS)
        os.close(myself)
        os.fchdir(self.root.descriptor)
        libc.pivot_root(".", ".")
        libc.umount(".", detach=True)  # the old root lies on top of the new one; see pivot_root(2)
        os.chdir("/")
        os.umask(0o022)

    def _finish(self, identity: Identity, slave: int, *, fork: bool = False) -> Never:
        """Become the process, or with an init its parent."""
        self._set_limits()
        self._enter_directory()
        pid1.block_signals()
        self._tell("ready")
        if fork or self.sandbox.init:
            child, _ = libc.clone(0)
            if child:
                pid1.supervise(child)
            os.setsid()
        libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
        self._connect(slave)
        self.doing = "drop privileges"
        execute.drop(identity, self.may, setgroups=self.machine.setgroups)
        libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)  # changing ids has cleared it
        execute.run(self.process.args, execute.environment(self.process, identity))

    def _connect(self, slave: int = -1) -> None:
        """Descriptors 0, 1 and 2: the terminal, or what the caller gave. All others close at exec."""
        self.doing = "connect the standard streams"
        if slave >= 0:
            terminal.become_controlling(slave)
        else:
            for target, source in enumerate((self.streams.stdin, self.streams.stdout, self.streams.stderr)):
                os.dup2(source, target)
        libc.close_range(3, pid1.HIGHEST_DESCRIPTOR, cloexec=True)

    def _set_limits(self) -> None:
        for limit in self.sandbox.rlimits:
            self.doing = f"set the resource limit {limit.name} to {limit.soft}:{limit.hard}"
            resource.setrlimit(limit.number(), (limit.soft, limit.hard))

    def _enter_directory(self) -> None:
        """While still root, so that a user may start where only root may look (runc does the same)."""
        self.doing = "enter the working directory"
        os.chdir(self.process.cwd)
        if not os.getcwd().startswith("/"):  # "(unreachable)": outside of the root
            raise OSError(errno.EXDEV, "it is outside of the container", self.process.cwd)
