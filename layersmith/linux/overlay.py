"""Overlay mounts. In: `Overlay`, a value. Out: a mount, detached (`open_overlay`) or in the tree (`overlay`).

Through the new mount API where the kernel has ``lowerdir+`` (Linux 6.7), so that neither the 4 KiB option page nor
the 256 bytes of an fsconfig string set a limit; else by mount(2) on short relative names. See
https://docs.kernel.org/filesystems/overlayfs.html.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from layersmith.dataclass import dataclass
from layersmith.errors import SandboxError
from layersmith.linux import libc

MOST_LOWERS = 500
"""OVL_MAX_STACK of fs/overlayfs/params.c."""

LONGEST_FSCONFIG_STRING = 255


@dataclass(frozen=True, slots=True)
class Overlay:
    """A stack of directories seen as one.

    ``lowers`` are absolute paths, topmost first, at most 500; ``upper`` and ``work`` lie on one file system and are
    both given or both None (then the view is read-only). ``userxattr`` says that whiteouts and opaque marks are
    ``user.overlay.*`` (a mount in a user namespace) and not ``trusted.overlay.*``. ``volatile`` leaves out the
    syncfs of the whole upper file system at unmount: an upper directory is only a copy of its layer's blob.

    No lower and an upper is that directory itself; no lower and no upper an empty read-only one; one lower without
    an upper that directory, read-only.
    """

    lowers: tuple[str, ...]
    upper: str | None = None
    work: str | None = None
    userxattr: bool = False
    volatile: bool = True
    mounted: str = ""
    """Where it is mounted already, by a program in place of the kernel (`fuse`); only this process' children see it."""

    def describe(self) -> str:
        """One phrase for logs and errors."""
        upper = f" under {self.upper}" if self.upper else ", read-only"
        return f"overlay of {len(self.lowers)} layer{'s' * (len(self.lowers) != 1)}{upper}"

    def options(self) -> tuple[tuple[str, str | None], ...]:
        """All mount options but the layers; a value of None is a flag.

        Without redirects, metacopy and index the upper directory *is* the diff: whole files, under their own names,
        with no reference to the lowers. ``nofollow`` (and not ``off``, which may mean "follow") never trusts a
        redirect that a layer brought along, and is the only value that ``userxattr`` allows.
        """
        fixed: list[tuple[str, str | None]] = [
            ("redirect_dir", "nofollow"),
            ("metacopy", "off"),
            ("index", "off"),
        ]
        if self.userxattr:
            fixed.append(("userxattr", None))
        if self.volatile and self.upper:
            fixed.append(("volatile", None))
        return tuple(fixed)


def open_overlay(overlay: Overlay, attributes: int = 0) -> int:
    """A detached mount of ``overlay`` with MOUNT_ATTR_* ``attributes``: a descriptor for `libc.move_mount`.

    Raises SandboxError.
    """
    if (overlay.upper is None) != (overlay.work is None):
        raise ValueError("upper and work are given together or not at all")
    try:
        return _open(overlay, attributes)
    except OSError as error:
        raise refused(overlay, error) from error


@contextmanager
def overlay(layers: Overlay, target: str) -> Iterator[str]:
    """``target`` with ``layers`` mounted on it, for as long as the block runs. Raises SandboxError.

    Only after `userns.enter`: the mount is then invisible to the host and goes with the process.
    """
    mount_overlay(layers, target)
    try:
        yield target
    finally:
        libc.umount(target, detach=True)


def mount_overlay(overlay: Overlay, target: str) -> None:
    """Mount ``overlay`` on the directory ``target`` of the calling process' mount namespace. Raises SandboxError."""
    mounted = open_overlay(overlay)
    try:
        libc.attach(mounted, target)
    except OSError as error:
        raise refused(overlay, error) from error


def refused(overlay: Overlay, error: OSError) -> SandboxError:
    """``error`` as a sentence, with what to do about it where the errno misleads."""
    name = errno.errorcode.get(error.errno or 0, "?")
    hint = ""
    if len(overlay.lowers) > MOST_LOWERS:
        hint = f"the kernel stacks at most {MOST_LOWERS} layers: squash some of the base's"
    elif error.errno == errno.ENODEV:
        hint = "the kernel has no overlay file system: modprobe overlay"
    elif error.errno == errno.EPERM:
        hint = "overlay mounts without root need Linux 5.11, and no AppArmor or SELinux rule against them"
    elif error.errno == errno.ELOOP:
        hint = "a directory is used twice: as layer, upper or work directory"
    elif error.errno == errno.EINVAL and overlay.upper:
        hint = (
            f"the file system of {overlay.upper} may not do as an upper directory (NFS, overlay, no xattrs);"
            " put the store on another with --root"
        )
    path = f"{os.fsdecode(error.filename)}: " if error.errno == errno.ENOENT and error.filename else ""
    return SandboxError(f"mount {overlay.describe()}: {path}{error.strerror} ({name})", hint=hint)


def _open(overlay: Overlay, attributes: int) -> int:
    readonly = 0 if overlay.upper else libc.MOUNT_ATTR_RDONLY
    if overlay.mounted:
        mounted = libc.open_tree(overlay.mounted)
        if attributes | readonly:
            libc.mount_setattr(mounted, attributes | readonly)
        return mounted
    if not overlay.lowers and not overlay.upper:
        return libc.new_mount("tmpfs", attributes | readonly, mode="0755", size="4096")
    single = overlay.upper if not overlay.lowers else overlay.lowers[0]
    if single and len(overlay.lowers) + bool(overlay.upper) == 1:
        mounted = libc.open_tree(single)
        if attributes | readonly:
            libc.mount_setattr(mounted, attributes | readonly)
        return mounted
    try:
        return _by_fsconfig(overlay, attributes | readonly)
    except NotImplementedError:
        return _by_mount(overlay, attributes | readonly)


def _by_fsconfig(overlay: Overlay, attributes: int) -> int:
    """With one ``lowerdir+`` a layer. Raises NotImplementedError where the kernel has no such option."""
    with ExitStack() as cleanup:

        def short(path: str) -> str:
            if len(os.fsencode(path)) <= LONGEST_FSCONFIG_STRING:
                return path
            directory = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            cleanup.callback(os.close, directory)
            return f"/proc/self/fd/{directory}"

        context = libc.fsopen("overlay")
        cleanup.callback(os.close, context)
        libc.fsconfig_string(context, "source", "overlay")
        for key, value in overlay.options():
            if value is None:
                libc.fsconfig_flag(context, key)
            else:
                libc.fsconfig_string(context, key, value)
        for number, lower in enumerate(overlay.lowers):
            try:
                libc.fsconfig_string(context, "lowerdir+", short(lower))
            except OSError as error:
                if number == 0 and error.errno == errno.EINVAL and Path(lower).is_dir():
                    raise NotImplementedError from error
                raise
        if overlay.upper and overlay.work:
            libc.fsconfig_string(context, "upperdir", short(overlay.upper))
            libc.fsconfig_string(context, "workdir", short(overlay.work))
        try:
            return libc.fsmount(context, attributes)
        except OSError as error:
            said = libc.fs_messages(context)
            raise OSError(error.errno, f"{error.strerror}: {said}" if said else error.strerror) from error


def _by_mount(overlay: Overlay, attributes: int) -> int:
    """With mount(2), for Linux 5.2 to 6.6: the lowers by the short names of symlinks in a private tmpfs, relative to
    a working directory, since all options together have one page."""
    place = overlay.upper or overlay.lowers[0]
    links = libc.new_mount("tmpfs", mode="0700")
    try:
        for number, lower in enumerate(overlay.lowers):
            os.symlink(lower, str(number), dir_fd=links)
        options = [key if value is None else f"{key}={value}" for key, value in overlay.options()]
        options.append("lowerdir=" + ":".join(map(str, range(len(overlay.lowers)))))
        if overlay.upper and overlay.work:
            options += [f"upperdir={escaped(overlay.upper)}", f"workdir={escaped(overlay.work)}"]
        data = ",".join(options)
        _with_own_directory(links, lambda: libc.mount("overlay", place, "overlay", 0, data))
    finally:
        os.close(links)
    mounted = libc.open_tree(place)
    libc.umount(place, detach=True)
    if attributes:
        libc.mount_setattr(mounted, attributes)
    return mounted


def escaped(path: str) -> str:
    """``path`` as the value of a mount option that takes several, divided by ``:`` and ``,``."""
    return path.replace("\\", "\\\\").replace(",", "\\,").replace(":", "\\:")


def _with_own_directory(directory: int, do: Callable[[], None]) -> None:
    """Call ``do`` in a thread whose working directory is its own: changing the process' would hit every thread."""
    failures: list[OSError] = []

    def run() -> None:
        try:
            libc.unshare(libc.CLONE_FS)
            os.fchdir(directory)
            do()
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
