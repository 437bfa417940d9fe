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
from typing import Never

from layersmith.dataclass import dataclass
from layersmith.errors import LayersmithError
from layersmith.linux import caps, execute, libc, netns, pid1, terminal
from layersmith.linux.execute import Privileges
from layersmith.linux.furnish import furnish
from layersmith.linux.machine import Machine
from layersmith.linux.root import Root
from layersmith.linux.rooted import open_in_root, read_in_root
from layersmith.linux.sandbox import Sandbox
from layersmith.linux.users import Identity, resolve_user
from layersmith.oci.process import Process

NAMESPACES = libc.CLONE_NEWNS | libc.CLONE_NEWPID | libc.CLONE_NEWIPC | libc.CLONE_NEWUTS


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


def clone_flags(sandbox: Sandbox) -> int:
    """The namespaces to clone into. The cgroup namespace comes later: its root is the group that was joined."""
    return NAMESPACES | (libc.CLONE_NEWNET if sandbox.network == "none" else 0)


class Launch:
    """One launch, in the process that `libc.clone` made; its public methods do not return.

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
        self.root = Root()

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
        stubs = tuple(stub.plain() for stub in self.root.stubs)
        socket.send_fds(self.channel, [marshal.dumps((message, stubs))], descriptors)

    def _launch(self) -> Never:
        self._leave_host()
        identity = self._furnish()
        slave = self._open_terminal(identity) if self.sandbox.tty else -1
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
        self._join_new_keyring()
        self.root.descriptor = os.open("/", os.O_PATH | os.O_CLOEXEC)
        identity = self._identity(self.root.descriptor)
        slave = self._open_terminal(identity) if self.sandbox.tty else -1
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
        self._join_new_keyring()

    def _join_new_keyring(self) -> None:
        """The caller's keys are none of the container's business."""
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
        """The container's root, and who the process is in there."""
        furnish(self.sandbox, self.machine, self.root, self._now)
        identity = self._identity(self.root.descriptor)
        if self.sandbox.create_cwd:
            self.doing = f"create the working directory {self.process.cwd}"
            self.root.make_directories(self.process.cwd, identity.uid, identity.gid)
        if self.sandbox.readonly_rootfs:
            self.doing = "make the root file system read-only"
            libc.mount_setattr(self.root.descriptor, libc.MOUNT_ATTR_RDONLY)
        return identity

    def _now(self, doing: str) -> None:
        self.doing = doing

    def _identity(self, top: int) -> Identity:
        self.doing = f"look up the user {self.process.user}"
        return resolve_user(
            self.process.user, read_in_root(top, "etc/passwd"), read_in_root(top, "etc/group")
        )

    def _open_terminal(self, identity: Identity) -> int:
        """The process' end; the caller's is sent to it with the report."""
        self.doing = "open a terminal"
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
        # A child by posix_spawn has its parent's identity, so the init is to be able to signal whatever it becomes,
        # and what only a child can do for itself is not to be done.
        spawn = self.sandbox.init and not fork and not identity.uid and slave < 0 and not self.sandbox.cgroups
        self._tell("ready")
        if (fork or self.sandbox.init) and not spawn:
            child, _ = libc.clone(0)
            if child:
                pid1.supervise(child)
            os.setsid()
            if self.sandbox.cgroups:
                pid1.spare_init()
        libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
        self._connect(slave)
        self.doing = "drop privileges"
        execute.drop(identity, self.may, setgroups=self.machine.setgroups)
        libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)  # changing ids has cleared it
        environment = execute.environment(self.process, identity)
        if spawn:
            pid1.supervise(execute.spawn(self.process.args, environment))
        execute.run(self.process.args, environment)

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
