"""The system calls that Python has no function for, each a few lines; a failure is an OSError with errno and path.

The only module with ctypes. Numbers from 424 on are the same on every architecture; x86-64 and AArch64 are known.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import struct
from typing import Final

from layersmith.errors import SandboxError

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long
_LIBC.syscall.argtypes = (ctypes.c_long,) + (ctypes.c_void_p,) * 6
_LIBC.mount.argtypes = (ctypes.c_char_p,) * 3 + (ctypes.c_ulong, ctypes.c_char_p)
_LIBC.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
_LIBC.prctl.argtypes = (ctypes.c_int,) + (ctypes.c_ulong,) * 4

_X86_64: Final = {"clone": 56, "pivot_root": 155, "keyctl": 250, "seccomp": 317, "capget": 125, "capset": 126}
_AARCH64: Final = {"clone": 220, "pivot_root": 41, "keyctl": 219, "seccomp": 277, "capget": 90, "capset": 91}
_NR: Final = {"x86_64": _X86_64, "aarch64": _AARCH64}.get(os.uname().machine, {})
_NR_OPEN_TREE, _NR_MOVE_MOUNT, _NR_FSOPEN, _NR_FSCONFIG, _NR_FSMOUNT = 428, 429, 430, 431, 432
_NR_CLOSE_RANGE, _NR_OPENAT2, _NR_MOUNT_SETATTR = 436, 437, 442

AT_FDCWD: Final = -100
AT_EMPTY_PATH: Final = 0x1000
AT_RECURSIVE: Final = 0x8000

CLONE_FS: Final = 0x200
CLONE_PIDFD: Final = 0x1000
CLONE_NEWNS: Final = 0x20000
CLONE_NEWCGROUP: Final = 0x2000000
CLONE_NEWUTS: Final = 0x4000000
CLONE_NEWIPC: Final = 0x8000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000

MS_RDONLY: Final = 0x1
MS_NOSUID: Final = 0x2
MS_NODEV: Final = 0x4
MS_NOEXEC: Final = 0x8
MS_REMOUNT: Final = 0x20
MS_BIND: Final = 0x1000
MS_REC: Final = 0x4000
MS_PRIVATE: Final = 0x40000
MNT_DETACH: Final = 2

MOUNT_ATTR_RDONLY: Final = 0x1
MOUNT_ATTR_NOSUID: Final = 0x2
MOUNT_ATTR_NODEV: Final = 0x4
MOUNT_ATTR_NOEXEC: Final = 0x8

RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_NO_SYMLINKS: Final = 0x04
RESOLVE_BENEATH: Final = 0x08
RESOLVE_IN_ROOT: Final = 0x10

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_SET_KEEPCAPS: Final = 8
PR_CAPBSET_DROP: Final = 24
PR_SET_NAME: Final = 15
PR_SET_NO_NEW_PRIVS: Final = 38
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4


def _failure(path: str | bytes | None = None) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), path)


def _syscall(
    number: int, *args: int | bytes | ctypes.Array[ctypes.c_char] | None, path: str | bytes | None = None
) -> int:
    result: int = _LIBC.syscall(number, *args, *(None,) * (6 - len(args)))
    if result < 0:
        raise _failure(path)
    return result


def require_known_machine() -> None:
    """Raise SandboxError where the numbers above are not this process' own: another CPU, or a 32-bit Python."""
    if not _NR or struct.calcsize("P") != 8:
        raise SandboxError(f"no sandbox on {os.uname().machine}", hint="64-bit x86 and Arm are known")


# Processes and namespaces


def clone(flags: int) -> tuple[int, int]:
    """fork() into the namespaces of ``flags``: (pid, pidfd) in the parent, (0, -1) in the child.

    No Python fork handler runs: only for a process with a single thread.
    """
    pidfd = ctypes.c_int(-1)
    pid = _syscall(_NR["clone"], flags | CLONE_PIDFD | 17, None, ctypes.addressof(pidfd))  # 17: SIGCHLD
    return pid, pidfd.value if pid else -1


def unshare(flags: int) -> None:
    """unshare(2)."""
    if _LIBC.unshare(flags) < 0:
        raise _failure()


def setns(descriptor: int, flags: int) -> None:
    """setns(2), on a pidfd or a namespace's descriptor."""
    if _LIBC.setns(descriptor, flags) < 0:
        raise _failure()


def sethostname(name: str) -> None:
    """sethostname(2)."""
    data = name.encode()
    if _LIBC.sethostname(data, len(data)) < 0:
        raise _failure()


def prctl(option: int, value: int = 0, *more: int) -> None:
    """prctl(2)."""
    if _LIBC.prctl(option, value, *more, *(0,) * (3 - len(more))) < 0:
        raise _failure()


def close_range(first: int, last: int, *, cloexec: bool = False) -> None:
    """Close descriptors ``first`` to ``last``, or mark them close-on-exec."""
    try:
        _syscall(_NR_CLOSE_RANGE, first, last, 4 if cloexec else 0)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EINVAL):
            raise
        for descriptor in range(first, min(last, os.sysconf("SC_OPEN_MAX") - 1) + 1):
            try:
                os.set_inheritable(descriptor, False) if cloexec else os.close(descriptor)  # noqa: FBT003
            except OSError:  # not open
                continue


def capget() -> tuple[int, int, int]:
    """The calling thread's capabilities as bit sets: effective, permitted, inheritable."""
    data = ctypes.create_string_buffer(24)
    _syscall(_NR["capget"], struct.pack("=Ii", 0x20080522, 0), data)
    low_e, low_p, low_i, high_e, high_p, high_i = struct.unpack("=6I", data.raw)
    return low_e | high_e << 32, low_p | high_p << 32, low_i | high_i << 32


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Set them; see capabilities(7)."""
    words = [s >> shift & 0xFFFFFFFF for shift in (0, 32) for s in (effective, permitted, inheritable)]
    _syscall(_NR["capset"], struct.pack("=Ii", 0x20080522, 0), struct.pack("=6I", *words))


def seccomp_set_filter(program: bytes) -> None:
    """Install ``program`` (struct sock_filter[]) for the calling thread and its children."""
    code = ctypes.create_string_buffer(program, len(program))
    _syscall(_NR["seccomp"], 1, 0, struct.pack("@HP", len(program) // 8, ctypes.addressof(code)))


def join_new_session_keyring() -> None:
    """A fresh, anonymous session keyring (keyctl(2)), so that the caller's keys are out of reach."""
    _syscall(_NR["keyctl"], 1, None)


# Mounts


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """mount(2)."""
    encoded = [None if s is None else os.fsencode(s) for s in (source, target, kind, data)]
    if _LIBC.mount(encoded[0], encoded[1], encoded[2], flags, encoded[3]) < 0:
        raise _failure(target)


def umount(target: str, *, detach: bool = False) -> None:
    """umount2(2)."""
    if _LIBC.umount2(os.fsencode(target), MNT_DETACH if detach else 0) < 0:
        raise _failure(target)


def pivot_root(new: str, old: str) -> None:
    """pivot_root(2)."""
    _syscall(_NR["pivot_root"], new.encode(), old.encode(), path=new)


def fsopen(kind: str) -> int:
    """A file system context of type ``kind``."""
    return _syscall(_NR_FSOPEN, kind.encode(), 1, path=kind)


def fsconfig_string(context: int, key: str, value: str) -> None:
    """Set an option; at most 255 bytes of ``value``."""
    _syscall(_NR_FSCONFIG, context, 1, key.encode(), os.fsencode(value), 0, path=value)


def fsconfig_flag(context: int, key: str) -> None:
    """Set an option without a value."""
    _syscall(_NR_FSCONFIG, context, 0, key.encode(), None, 0, path=key)


def fsmount(context: int, attributes: int = 0) -> int:
    """Create the file system of ``context`` and mount it detached: a descriptor for `move_mount`."""
    _syscall(_NR_FSCONFIG, context, 6, None, None, 0)
    return _syscall(_NR_FSMOUNT, context, 1, attributes)


def fs_messages(context: int) -> str:
    """What the kernel has to say about the last failure on ``context`` (may be empty)."""
    lines = []
    try:
        while line := os.read(context, 4096):
            lines.append(line.decode(errors="replace").partition(" ")[2].strip())
    except OSError:
        pass
    return "; ".join(lines)


def kernel_version(release: str) -> tuple[int, ...]:
    """The first two numbers of what uname(2) calls the kernel's release."""
    return tuple(int(number) for number in re.findall(r"\d+", release)[:2])


def new_mount(kind: str, attributes: int = 0, **options: str | None) -> int:
    """A detached mount of a new file system; an option of None is a flag, and ``source`` is ``kind`` unless given."""
    context = fsopen(kind)
    try:
        for key, value in {"source": kind, **options}.items():
            if value is None:
                fsconfig_flag(context, key)
            else:
                fsconfig_string(context, key, value)
        return fsmount(context, attributes)
    finally:
        os.close(context)


def open_tree(path: str, *, dir_fd: int = AT_FDCWD, recursive: bool = False) -> int:
    """A detached copy of the mount (tree) at ``path``, as bind makes one; ``""`` is ``dir_fd`` itself."""
    flags = 1 | os.O_CLOEXEC | AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    return _syscall(_NR_OPEN_TREE, dir_fd, os.fsencode(path), flags, path=path)


def attach(mounted: int, path: str | os.PathLike[str]) -> None:
    """Attach the detached mount ``mounted`` on ``path``, which exists, and close it."""
    try:
        target = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            move_mount(mounted, target)
        finally:
            os.close(target)
    finally:
        os.close(mounted)


def move_mount(source: int, target: int) -> None:
    """Attach the detached mount ``source`` on what the descriptor ``target`` refers to."""
    _syscall(_NR_MOVE_MOUNT, source, b"", target, b"", 0x4 | 0x40)  # both sides by empty path


def mount_setattr(descriptor: int, attributes: int, *, recursive: bool = False) -> None:
    """Set MOUNT_ATTR_* on a mount (tree); before Linux 5.12 by remounting."""
    data = struct.pack("=4Q", attributes, 0, 0, 0)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    try:
        _syscall(_NR_MOUNT_SETATTR, descriptor, b"", flags, data, len(data))
    except OSError as error:
        if error.errno != errno.ENOSYS or recursive:
            raise
        kept = os.fstatvfs(descriptor).f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY)
        mount(None, f"/proc/self/fd/{descriptor}", None, MS_REMOUNT | MS_BIND | attributes | kept)


def openat2(dir_fd: int, path: bytes, flags: int, mode: int, resolve: int) -> int:
    """openat2(2); always close-on-exec."""
    how = struct.pack("=3Q", flags | os.O_CLOEXEC, mode, resolve)
    return _syscall(_NR_OPENAT2, dir_fd, path, ctypes.create_string_buffer(how, 24), 24, path=path)
