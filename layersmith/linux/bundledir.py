"""An OCI bundle on disk: a `Sandbox`'s files mounted where a runtime looks for them. In: a sandbox. Out: a directory.

The mounts lie in this process' private mount namespace, so nobody else ever sees them.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import stat
from contextlib import ExitStack
from pathlib import Path

from layersmith.errors import SandboxError
from layersmith.linux import bundle, libc
from layersmith.linux.mounts import NODEV, Bind, File, OverlayAt, Tmpfs
from layersmith.linux.overlay import Overlay, open_overlay
from layersmith.linux.root import Root
from layersmith.linux.rooted import read_in_root
from layersmith.linux.sandbox import Sandbox
from layersmith.linux.stubs import Stub, remove_stubs
from layersmith.linux.terminal import window_size
from layersmith.linux.users import Identity, resolve_user

SYSTEM_TARGETS = ("/proc", "/dev", "/sys")


class Bundle:
    """A bundle in the fresh ``directory``, its mounts in this process' namespace; taken down when ``stack`` is closed.

    ``cgroups_path``: for a runtime that insists on control groups. Raises SandboxError, StepError (unknown user).
    """

    def __init__(
        self, sandbox: Sandbox, directory: Path, stack: ExitStack, *, cgroups_path: str | None
    ) -> None:
        self.directory = directory
        self.upper = sandbox.upper
        # Before anybody can resize it, a container's terminal is as large as the caller's.
        self.console_size = next((s for s in map(window_size, (1, 0, 2)) if all(s)), (24, 80))
        self._stubs: list[Stub] = []
        self._sandbox = sandbox
        self._stack = stack
        stack.callback(_remove, directory)
        for name in ("rootfs", "mounts"):
            (directory / name).mkdir(mode=0o755)
        mounts = [*self._mounts()]
        root = self._mount_root()
        identity = self._furnish(root, [mount.target for mount in mounts])
        value = bundle.config(
            sandbox,
            identity,
            mounts,
            permitted=libc.capget()[1],
            cgroups_path=cgroups_path,
            console_size=self.console_size,
            machine=platform.machine(),
        )
        data = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape")
        (directory / "config.json").write_bytes(data)

    def remove_stubs(self) -> None:
        """Take the mount points that were made out of the upper directory again."""
        if self.upper:
            remove_stubs(self.upper, tuple(self._stubs))

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
        libc.attach(mounted, place)
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
            self._stubs = root.stubs
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


def _options(place: Path) -> tuple[str, ...]:
    """What the mount at ``place`` refuses: a runtime that binds it again does not keep that by itself."""
    flags = os.statvfs(place).f_flag
    known = ((os.ST_RDONLY, "ro"), (os.ST_NOSUID, "nosuid"), (os.ST_NODEV, "nodev"), (os.ST_NOEXEC, "noexec"))
    return tuple(word for flag, word in known if flags & flag)


def _remove(directory: Path) -> None:
    """What is still a mount point stays, whatever it is: only names are removed here, and the runtime's own state."""
    shutil.rmtree(directory / "state", ignore_errors=True)
    with contextlib.suppress(OSError):
        for path in (*(directory / "mounts").iterdir(), *directory.iterdir(), directory):
            with contextlib.suppress(OSError):
                path.rmdir() if path.is_dir() else path.unlink()
