"""``--isolation=oci``: sandboxes run by an installed OCI runtime, crun or runc. In: `Sandbox`. Out: a `Running`'s like.

The bundle's mounts exist in this process' private mount namespace, and the runtime runs below the spawner, in its PID
namespace: so however layersmith dies, nothing of either is left.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import pty
import re
import select
import shutil
import signal
import stat
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from layersmith.errors import SandboxError, UsageError
from layersmith.linux import bundle, libc
from layersmith.linux.mounts import NODEV, Bind, File, OverlayAt, Tmpfs
from layersmith.linux.overlay import Overlay, open_overlay
from layersmith.linux.root import Root
from layersmith.linux.rooted import read_in_root
from layersmith.linux.sandbox import Sandbox
from layersmith.linux.spawner import Running, Spawner
from layersmith.linux.stubs import Stub, remove_stubs
from layersmith.linux.users import Identity, resolve_user

RUNTIMES = ("crun", "runc")
SYSTEM_TARGETS = ("/proc", "/dev", "/sys")
NOT_EXECUTABLE, NOT_FOUND = 126, 127

_WRAPPER = """\
while [ "$1" != -- ]; do echo 0 >"$1/cgroup.procs" || exit 125; shift; done; shift
if [ -d /sys/fs/cgroup/unified ]; then umount -l /sys/fs/cgroup/unified; fi 2>/dev/null
exec "$@"
"""
"""In a mount namespace of its own: joins control groups, and becomes the runtime. crun refuses to start where versions 1
and 2 are mounted at once (systemd's hybrid layout), though it is to leave groups alone."""

_NOT_FOUND = re.compile(r"executable file .*not found|exec: .*: no such file or directory")
_NOT_EXECUTABLE = re.compile(
    r"exec: .*: (permission denied|exec format error|is a directory)|^open executable: |^exec .*: .*(denied|format)",
    re.IGNORECASE,
)
"""As runc (``exec: "x": …``) and crun word what became of execve(2)."""

_POLL_MILLISECONDS = 2


def find(name: str) -> str:
    """The path of the runtime that ``oci`` or ``oci:NAME`` means. Raises UsageError."""
    kind, _, wanted = name.partition(":")
    if kind != "oci":
        raise UsageError(f"unknown isolation {name!r}", hint="there are builtin, oci, oci:crun and oci:runc")
    for candidate in (wanted,) if wanted else RUNTIMES:
        path = shutil.which(candidate)
        if path:
            return path
    raise UsageError(f"no OCI runtime {wanted or 'crun or runc'} is installed", hint="leave --isolation out")


class OciRuntime:
    """Starts sandboxes as `Spawner` does; safe to use from many threads at once.

    ``temporary(prefix)`` makes a fresh directory on a file system that can hold an upper directory's mount point.
    """

    def __init__(self, spawner: Spawner, program: str, temporary: Callable[[str], Path]) -> None:
        self._spawner = spawner
        self._program = program
        self._temporary = temporary

    def run(self, sandbox: Sandbox, *, stdin: int, stdout: int, stderr: int) -> OciRunning:
        """Start ``sandbox``; returns once the runtime has set it up. Raises SandboxError, StepError (unknown user)."""
        with ExitStack() as stack:
            made = _Bundle(sandbox, self._temporary("bundle"), stack)
            controller = None
            ends = (stdin, stdout, stderr)
            if sandbox.tty:
                controller, terminal = pty.openpty()
                stack.callback(os.close, controller)
                ends = (terminal, terminal, terminal)
            try:
                inner = self._spawner.run_program(
                    self._command(sandbox, made), stdin=ends[0], stdout=ends[1], stderr=ends[2]
                )
            finally:
                if sandbox.tty:
                    os.close(ends[0])
            stack.push(inner)
            running = OciRunning(inner, made, controller)
            running.started()
            running.keep(stack.pop_all())
            return running

    def _command(self, sandbox: Sandbox, made: _Bundle) -> tuple[str, ...]:
        name = os.path.basename(self._program)
        groups = ("--cgroup-manager=disabled",) if name == "crun" else ()
        place = os.fspath(made.directory)
        return (
            # The runtime finds processes by their numbers in /proc: it has to be that of the PID namespace it is in.
            *("unshare", "--mount-proc", "--propagation", "private"),
            *("sh", "-c", _WRAPPER, "sh", *sandbox.cgroups, "--"),
            *(self._program, "--root", f"{place}/state", "--log", f"{place}/log", "--log-format", "json"),
            *groups,
            *("run", "--bundle", place, "--pid-file", f"{place}/pid", f"layersmith-{made.directory.name}"),
        )


class _Bundle:
    """A bundle on disk, its mounts in this process' namespace; taken down when ``stack`` is closed."""

    def __init__(self, sandbox: Sandbox, directory: Path, stack: ExitStack) -> None:
        self.directory = directory
        self.stubs: list[Stub] = []
        self._sandbox = sandbox
        self._stack = stack
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        for name in ("rootfs", "mounts"):
            (directory / name).mkdir(mode=0o755)
        mounts = [*self._mounts()]
        root = self._mount_root()
        identity = self._furnish(root, [mount.target for mount in mounts])
        cgroups_path = (
            _below_mount(sandbox.cgroups[0]) if sandbox.cgroups else f"/layersmith-{directory.name}"
        )
        value = bundle.config(
            sandbox,
            identity,
            mounts,
            permitted=libc.capget()[1],
            cgroups_path=cgroups_path,
            machine=platform.machine(),
        )
        data = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape")
        (directory / "config.json").write_bytes(data)

    def _mount_root(self) -> int:
        rootfs = self._sandbox.rootfs
        attributes = 0 if self._sandbox.insecure else NODEV
        if isinstance(rootfs, Overlay):
            mounted = open_overlay(rootfs, attributes)
        else:
            mounted = libc.open_tree(rootfs, recursive=True)
            libc.mount_setattr(mounted, attributes, recursive=True)
        self._attach(mounted, self.directory / "rootfs")
        descriptor = os.open(self.directory / "rootfs", os.O_PATH | os.O_CLOEXEC)
        self._stack.callback(os.close, descriptor)
        return descriptor

    def _mounts(self) -> list[bundle.Prepared]:
        """The sandbox's own mounts, as they are mounted here."""
        sandbox = self._sandbox
        files = (
            ("/etc/resolv.conf", sandbox.resolv_conf),
            ("/etc/hosts", sandbox.hosts),
            ("/etc/hostname", sandbox.etc_hostname),
        )
        wanted: list[Bind | OverlayAt | Tmpfs | File] = sorted(
            sandbox.mounts, key=lambda mount: mount.target.rstrip("/").count("/")
        )
        wanted += [File(target, data) for target, data in files if data is not None]
        found = []
        if any(isinstance(mount, File | OverlayAt) for mount in wanted):
            scratch = self.directory / "scratch"
            scratch.mkdir(mode=0o700)
            self._attach(libc.new_mount("tmpfs", mode="0700"), scratch)
        for number, mount in enumerate(wanted):
            doing = mount.describe()
            try:
                if isinstance(mount, File | OverlayAt):
                    mounted = mount.open(os.fspath(self.directory / "scratch"), str(number))
                else:
                    mounted = mount.open()
            except OSError as error:
                raise SandboxError(f"{doing}: {error.strerror}") from error
            place = self.directory / "mounts" / str(number)
            if stat.S_ISDIR(os.fstat(mounted).st_mode):
                place.mkdir()
            else:
                place.touch()
            self._attach(mounted, place)
            found.append(bundle.Prepared(os.fspath(place), mount.target, _options(place)))
        return found

    def _attach(self, mounted: int, place: Path) -> None:
        point = os.open(place, os.O_PATH | os.O_CLOEXEC)
        try:
            libc.move_mount(mounted, point)
        finally:
            os.close(point)
            os.close(mounted)
        self._stack.callback(libc.umount, os.fspath(place), detach=True)

    def _furnish(self, descriptor: int, targets: list[str]) -> Identity:
        """Make the mount points, so that it is known which are to go again; and the working directory."""
        sandbox = self._sandbox
        upper = -1
        if isinstance(sandbox.rootfs, Overlay) and sandbox.upper:
            upper = os.open(sandbox.upper, os.O_PATH | os.O_CLOEXEC)
        try:
            root = Root(descriptor, upper)
            for target in SYSTEM_TARGETS:
                os.close(root.point(target, is_directory=True))
            for number, target in enumerate(targets):
                # In /dev and the like it is the runtime that makes them, in a file system of the container's own.
                if not target.startswith(tuple(f"{t}/" for t in SYSTEM_TARGETS)):
                    is_directory = (self.directory / "mounts" / str(number)).is_dir()
                    os.close(root.point(target, is_directory=is_directory))
            self.stubs = root.stubs
            identity = resolve_user(
                sandbox.process.user,
                read_in_root(descriptor, "etc/passwd"),
                read_in_root(descriptor, "etc/group"),
            )
            if sandbox.create_cwd:
                root.make_directories(sandbox.process.cwd, identity.uid, identity.gid)
        except OSError as error:
            raise SandboxError(f"make the mount points of the container: {error.strerror}") from error
        finally:
            if upper >= 0:
                os.close(upper)
        return identity


class OciRunning:
    """`Running` of a container that an OCI runtime runs. ``pid`` is the container's first process."""

    def __init__(self, inner: Running, made: _Bundle, terminal: int | None) -> None:
        self.pid = 0
        self.terminal = terminal
        self._inner = inner
        self._bundle = made
        self._upper = made._sandbox.upper
        self._status: int | None = None
        self._cleanup: ExitStack | None = None
        self._pidfd = -1

    def started(self) -> None:
        """Wait until the runtime has made the container. Raises SandboxError."""
        poll = select.poll()
        poll.register(self._inner.fileno(), select.POLLIN)
        pid_file = self._bundle.directory / "pid"
        while not pid_file.exists():
            if poll.poll(_POLL_MILLISECONDS):
                self.wait()
                return
        self.pid = _first_child(self._inner.pid)
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                self._pidfd = os.pidfd_open(self.pid)

    def wait(self) -> int:
        """See `Running.wait`; the runtime's own failures are told apart from the command's by its log."""
        if self._status is None:
            status = self._inner.wait()
            if self._upper:
                remove_stubs(self._upper, tuple(self._bundle.stubs))
            message = _last_error(self._bundle.directory / "log")
            self._status = self._explain(message) if status and message and not self.pid else status
        return self._status

    @staticmethod
    def _explain(message: str) -> int:
        """The status for a command that could not be executed, which the runtime has said on the command's standard
        error, too. Raises SandboxError for any other failure."""
        if _NOT_FOUND.search(message):
            return NOT_FOUND
        if _NOT_EXECUTABLE.search(message):
            return NOT_EXECUTABLE
        raise SandboxError(f"the OCI runtime failed: {message}")

    def kill(self, signal_number: int = signal.SIGKILL) -> None:
        """See `Running.kill`. The runtime forwards what it can; who kills it alone leaves the container running."""
        if signal_number in (signal.SIGKILL, signal.SIGSTOP) and self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal_number)
            return
        self._inner.kill(signal_number)

    def fileno(self) -> int:
        return self._inner.fileno()

    def keep(self, cleanup: ExitStack) -> None:
        """What to undo at the end."""
        self._cleanup = cleanup

    def close(self) -> None:
        """See `Running.close`."""
        if self._cleanup is not None:
            self.kill()
            with contextlib.suppress(SandboxError):
                self.wait()
            self._cleanup.close()
            self._cleanup = None
            if self._pidfd >= 0:
                os.close(self._pidfd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _options(place: Path) -> tuple[str, ...]:
    """What the mount at ``place`` refuses: a runtime that binds it again does not keep that by itself."""
    flags = os.statvfs(place).f_flag
    known = ((os.ST_RDONLY, "ro"), (os.ST_NOSUID, "nosuid"), (os.ST_NODEV, "nodev"), (os.ST_NOEXEC, "noexec"))
    return tuple(word for flag, word in known if flags & flag)


def _first_child(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
    except (OSError, IndexError):
        return 0


def _last_error(log: Path) -> str:
    """What a runtime's log says last at the level error; nothing if it has no such line."""
    try:
        lines = log.read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    for line in reversed(lines):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if entry.get("level") in ("error", "fatal"):
            return str(entry.get("msg", ""))
    return ""


def _below_mount(directory: str) -> str:
    """The path of a control group in its hierarchy."""
    path = Path(directory)
    while not os.path.ismount(path):
        path = path.parent
    return "/" + os.fspath(Path(directory).relative_to(path))
