"""What the whole process does first of all: leave the host's mount namespace, and, if not root, get a user namespace.

In: the calling user. Out: `Isolation`, what that came to. See user_namespaces(7), newuidmap(1), subuid(5).
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import shutil
from pathlib import Path

from layersmith.dataclass import dataclass, replace
from layersmith.errors import SandboxError
from layersmith.linux import libc

SWITCHES = (
    ("sys/kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
    (
        "sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
    ),
    ("sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=15000"),
)
"""Files of /proc that forbid user namespaces, with the value that does, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Isolation:
    """How this process stands towards the host.

    ``rootless``: it runs in a user namespace of its own. ``single_id``: only one user and one group exist in there
    (no subuid ranges), so chown to anything but 0 fails. ``userxattr``: what `Overlay.userxattr` has to be.
    ``uids`` and ``gids``: how many ids are mapped, from 0 on. ``warnings``: sentences for the user.
    """

    rootless: bool
    single_id: bool
    userxattr: bool
    uids: int
    gids: int
    warnings: tuple[str, ...] = ()

    @property
    def xattr_namespace(self) -> str:
        """Whose extended attributes hold overlayfs' marks: ``trusted`` ones are root's alone."""
        return "user" if self.userxattr else "trusted"

    @property
    def mounts_images(self) -> bool:
        """Whether file systems on a block device, or in a file, may be mounted: never in a user namespace."""
        return not self.rootless


@dataclass(frozen=True, slots=True)
class Range:
    """``count`` ids: from ``inside`` on in the namespace, from ``outside`` on in its parent."""

    inside: int
    outside: int
    count: int


def enter() -> Isolation:
    """Isolate the calling process, which must have no other thread. Raises SandboxError with what to change.

    Root: a private mount namespace. Anyone else: first a user namespace in which they are root, with the ranges of
    /etc/subuid and /etc/subgid where there are any (through newuidmap and newgidmap), else with their one id.
    """
    libc.require_known_machine()
    if os.geteuid() == 0 and _may_mount():
        _private_mounts()
        return isolation()
    uids, gids, warnings = _ranges()
    if len(uids) == 1:
        _unshare_single(os.geteuid(), os.getegid())
    else:
        _unshare_ranges(uids, gids)
    _private_mounts()
    return replace(isolation(), warnings=warnings)


def join(pid: int) -> Isolation:
    """Enter the user and mount namespaces of the layersmith process ``pid`` instead of new ones (for ``exec``).

    Like `enter`, before any thread. Raises SandboxError.
    """
    try:
        target = os.pidfd_open(pid)
        try:
            if Path(f"/proc/{pid}/ns/user").readlink() != Path("/proc/self/ns/user").readlink():
                libc.setns(target, libc.CLONE_NEWUSER)
            libc.setns(target, libc.CLONE_NEWNS)
        finally:
            os.close(target)
    except OSError as error:
        raise SandboxError(
            f"enter the namespaces of process {pid}: {error.strerror}",
            hint="only the user who started a container can enter it",
        ) from error
    return isolation()


def isolation() -> Isolation:
    """How the calling process stands now, from /proc/self/uid_map: inside a user namespace or not, with which ids."""
    uids, gids = _mapped("/proc/self/uid_map"), _mapped("/proc/self/gid_map")
    rootless = uids < (1 << 32) - 1
    return Isolation(rootless, uids == 1, rootless, uids, gids)


def _may_mount() -> bool:
    """Whether CAP_SYS_ADMIN (21) is there; root in a container may lack it, and then needs a namespace like anyone."""
    return bool(libc.capget()[0] >> 21 & 1)


def _mapped(path: str) -> int:
    return sum(int(line.split()[2]) for line in Path(path).read_text().splitlines())


def _private_mounts() -> None:
    try:
        libc.unshare(libc.CLONE_NEWNS)
        try:
            libc.mount(None, "/", None, libc.MS_REC | libc.MS_PRIVATE)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            _make_chroot_the_root()
    except OSError as error:
        raise SandboxError(f"create a private mount namespace: {error.strerror}") from error


def _make_chroot_the_root() -> None:
    """Make the chroot(2) that the process is in the root of its mount namespace, which it has to itself.

    In a chroot ``/`` is no mount, so neither its propagation can be changed nor can pivot_root(2) leave it. setns(2)
    into one's own mount namespace leads to that namespace's real root; from there the chroot's directory, with all that
    is mounted in it, is mounted on itself and pivoted to. Paths stay what they were.
    """
    directory = Path.cwd()
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        libc.setns(namespace, libc.CLONE_NEWNS)
        libc.mount(None, "/", None, libc.MS_REC | libc.MS_PRIVATE)
        os.fchdir(root)
        tree = libc.open_tree(".", recursive=True)
        try:
            libc.move_mount(tree, root)
            os.fchdir(tree)
        finally:
            os.close(tree)
        libc.pivot_root(".", ".")
        libc.umount(".", detach=True)
        os.chdir(directory)
    finally:
        os.close(namespace)
        os.close(root)


def _ranges() -> tuple[tuple[Range, ...], tuple[Range, ...], tuple[str, ...]]:
    """What the caller's ids map to: 0 is themselves, the rest comes from the subordinate ranges."""
    uid, gid = os.geteuid(), os.getegid()
    names = _names(uid)
    uids = (Range(0, uid, 1), *_subordinate(Path("/etc/subuid"), names))
    gids = (Range(0, gid, 1), *_subordinate(Path("/etc/subgid"), names))
    problem = ""
    if len(uids) == 1 or len(gids) == 1:
        problem = (
            f"no ranges for {min(names, key=len)} in /etc/subuid and /etc/subgid (usermod --add-subuids)"
        )
    elif not (shutil.which("newuidmap") and shutil.which("newgidmap")):
        problem = "newuidmap and newgidmap are missing (package uidmap)"
    if not problem:
        return uids, gids, ()
    return uids[:1], gids[:1], (f"only one user id is available, so chown and other users fail: {problem}",)


def subordinate_ids(path: Path, uid: int) -> int:
    """How many ids ``path`` (/etc/subuid or /etc/subgid) lends to user ``uid``."""
    return sum(found.count for found in _subordinate(path, _names(uid)))


def user_name(uid: int) -> str:
    """The user's name; the number of one who has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _names(uid: int) -> set[str]:
    """What subuid(5) may call the user."""
    return {str(uid), user_name(uid)}


def _subordinate(path: Path, names: set[str]) -> tuple[Range, ...]:
    """The ranges of subuid(5) for any of ``names``, laid end to end from 1 on."""
    found: list[Range] = []
    inside = 1
    with contextlib.suppress(OSError):
        for line in path.read_text().splitlines():
            name, _, rest = line.strip().partition(":")
            start, _, count = rest.partition(":")
            if name in names and start.isdigit() and count.isdigit() and int(count):
                found.append(Range(inside, int(start), int(count)))
                inside += int(count)
    return tuple(found)


def _unshare_single(uid: int, gid: int) -> None:
    _unshare_user()
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    except OSError as error:
        raise SandboxError(f"map the user id into a user namespace: {error.strerror}") from error


def _unshare_ranges(uids: tuple[Range, ...], gids: tuple[Range, ...]) -> None:
    """newuidmap must run outside of the namespace that it maps: a child stays behind and does it."""
    mine, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(theirs)
        status = 1
        try:
            if os.read(mine, 1):
                status = _write_maps(os.getppid(), uids, gids)
        finally:
            os._exit(status)
    os.close(mine)
    try:
        _unshare_user()
        os.write(theirs, b".")
    finally:
        os.close(theirs)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        raise SandboxError(
            "newuidmap or newgidmap could not map the ranges of /etc/subuid and /etc/subgid",
            hint="it said why above; both must be setuid root or have the file capabilities cap_setuid, cap_setgid",
        )


def _write_maps(pid: int, uids: tuple[Range, ...], gids: tuple[Range, ...]) -> int:
    for program, ranges in (("newgidmap", gids), ("newuidmap", uids)):
        args = [program, str(pid), *(str(n) for r in ranges for n in (r.inside, r.outside, r.count))]
        status = os.waitstatus_to_exitcode(os.waitpid(os.posix_spawnp(program, args, os.environ), 0)[1])
        if status:
            return status
    return 0


def _unshare_user() -> None:
    try:
        libc.unshare(libc.CLONE_NEWUSER)
    except OSError as error:
        raise SandboxError(f"create a user namespace: {error.strerror}", hint=_why_not(error)) from error


def _why_not(error: OSError) -> str:
    """The switch that forbids user namespaces on this machine, as far as it shows."""
    for path, bad, say in SWITCHES:
        with contextlib.suppress(OSError):
            if Path("/proc", path).read_text().strip() == bad:
                return f"let users have namespaces: {say}"
    if error.errno == errno.ENOSPC:
        return "too many user namespaces or too deep a nesting: sysctl user.max_user_namespaces"
    if error.errno == errno.EINVAL:
        return "the process has several threads, or the kernel no CONFIG_USER_NS"
    return "a container or a seccomp filter around layersmith forbids it; run it with --security-opt seccomp=unconfined"
