"""The container's root while it is being furnished. Runs in the sandbox's first process, before pivot_root.

Every path is resolved inside the root and becomes a descriptor, and mounts are attached to descriptors: no symlink of
an image leads outside, and nothing is looked up twice.
"""

from __future__ import annotations

import errno
import os
import stat

from layersmith.linux import libc
from layersmith.linux.rooted import MOST_LINKS, open_in_root
from layersmith.linux.stubs import Attributes, Stub, attributes


class Root:
    """``descriptor`` is the mounted root, ``upper`` one of the directory that takes its changes; -1 while there is
    none. ``stubs``: the mount points that had to be made."""

    def __init__(self, descriptor: int = -1, upper: int = -1) -> None:
        self.descriptor = descriptor
        self.upper = upper
        self.stubs: list[Stub] = []

    def forget_upper(self) -> None:
        """Close it: a directory of the host, which must not be open when the command's own paths are looked up."""
        if self.upper >= 0:
            os.close(self.upper)
            self.upper = -1

    def attach(self, mounted: int, target: str) -> None:
        """Attach ``mounted`` at ``target``, which is made if it is missing, and close it."""
        if not target.strip("/."):
            raise OSError(errno.EINVAL, "nothing can be mounted over the root", target)
        is_directory = stat.S_ISDIR(os.fstat(mounted).st_mode)
        point = self.point(target, is_directory=is_directory)
        try:
            libc.move_mount(mounted, point)
        finally:
            os.close(point)
            os.close(mounted)

    def point(self, target: str, *, is_directory: bool) -> int:
        """A descriptor of ``target``; a directory or an empty file is made where there is none."""
        try:
            return open_in_root(self.descriptor, target, os.O_PATH)
        except FileNotFoundError:
            names, missing = self._resolve(target)
        for name in missing[:-1]:
            self._make(names, name, is_directory=True)
            names.append(name)
        self._make(names, missing[-1], is_directory=is_directory)
        return open_in_root(self.descriptor, "/".join([*names, missing[-1]]), os.O_PATH, follow=False)

    def mask(self, path: str, null: int) -> None:
        """Hide ``path``, if it exists: a directory under an empty read-only tmpfs, anything else under ``null``."""
        try:
            point = open_in_root(self.descriptor, path, os.O_PATH)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            if stat.S_ISDIR(os.fstat(point).st_mode):
                mounted = libc.new_mount("tmpfs", libc.MOUNT_ATTR_RDONLY, mode="0755", size="4096")
            else:
                mounted = libc.open_tree("", dir_fd=null)
            libc.move_mount(mounted, point)
            os.close(mounted)
        finally:
            os.close(point)

    def set_readonly(self, path: str) -> None:
        """Make ``path`` and all below it read-only, if it exists."""
        try:
            point = open_in_root(self.descriptor, path, os.O_PATH)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            mounted = libc.open_tree("", dir_fd=point, recursive=True)
            libc.mount_setattr(mounted, libc.MOUNT_ATTR_RDONLY, recursive=True)
            libc.move_mount(mounted, point)
            os.close(mounted)
        finally:
            os.close(point)

    def bind_device(self, name: str, source: str | None) -> None:
        """A mount of /dev/``name`` on itself (or of the host's ``source``), where device nodes do work."""
        point = open_in_root(self.descriptor, f"/dev/{name}", os.O_PATH, follow=False)
        try:
            mounted = libc.open_tree(source) if source else libc.open_tree("", dir_fd=point)
            libc.move_mount(mounted, point)
            os.close(mounted)
        finally:
            os.close(point)

    def make_directories(self, path: str, uid: int, gid: int) -> None:
        """``path`` and its missing parents, mode 0755, owned by ``uid`` and ``gid``; they stay."""
        names, missing = self._resolve(path)
        for name in missing:
            parent = open_in_root(self.descriptor, "/".join(names), os.O_PATH | os.O_DIRECTORY)
            try:
                os.mkdir(name, 0o755, dir_fd=parent)
                os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)
            finally:
                os.close(parent)
            names.append(name)

    def _resolve(self, path: str) -> tuple[list[str], list[str]]:
        """The real names of ``path`` as far as it exists, and those that are missing (a dangling symlink's too)."""
        real: list[str] = []
        todo = path.split("/")[::-1]
        links = 0
        while todo:
            name = todo.pop()
            if name in ("", "."):
                continue
            if name == "..":
                del real[-1:]
                continue
            try:
                entry = open_in_root(self.descriptor, "/".join([*real, name]), os.O_PATH, follow=False)
            except FileNotFoundError:
                rest = [n for n in todo[::-1] if n not in ("", ".")]
                if ".." in rest:
                    raise
                return real, [name, *rest]
            try:
                if not stat.S_ISLNK(os.fstat(entry).st_mode):
                    real.append(name)
                    continue
                links += 1
                if links > MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                to = os.readlink("", dir_fd=entry)
            finally:
                os.close(entry)
            if to.startswith("/"):
                real.clear()
            todo.extend(to.split("/")[::-1])
        return real, []

    def _make(self, names: list[str], name: str, *, is_directory: bool) -> None:
        parent = open_in_root(self.descriptor, "/".join(names), os.O_PATH | os.O_DIRECTORY)
        try:
            before = os.fstat(parent)
            copied_up = self._not_in_upper(names)
            if is_directory:
                os.mkdir(name, 0o755, dir_fd=parent)
            else:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                os.close(os.open(name, flags, 0o644, dir_fd=parent))
            if os.fstat(parent).st_dev == os.fstat(self.descriptor).st_dev:
                after = os.fstat(parent).st_mtime_ns
                path = "/".join([*names, name])
                self.stubs.append(Stub(path, is_directory, before.st_mtime_ns, after, copied_up))
        finally:
            os.close(parent)

    def _not_in_upper(self, names: list[str]) -> tuple[tuple[str, int, Attributes], ...]:
        """The directories that making something in ``names`` will copy up, the deepest first."""
        if self.upper < 0:
            return ()
        found = []
        for depth in range(len(names), 0, -1):
            path = "/".join(names[:depth])
            try:
                os.stat(path, dir_fd=self.upper, follow_symlinks=False)
            except FileNotFoundError:
                directory = open_in_root(self.descriptor, path, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    found.append((path, os.fstat(directory).st_mtime_ns, attributes(directory)))
                finally:
                    os.close(directory)
            else:
                break
        return tuple(found)
