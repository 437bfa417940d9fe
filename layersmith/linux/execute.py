"""The last steps of a sandboxed process: who it is, what it may, and exec. Runs in the container, after pivot_root."""

from __future__ import annotations

import errno
import os
import signal
import stat
from collections.abc import Callable, Mapping
from typing import Never

from layersmith.dataclass import dataclass
from layersmith.linux import caps, libc
from layersmith.linux.users import Identity
from layersmith.oci.process import DEFAULT_PATH, Process

NOT_EXECUTABLE, NOT_FOUND = 126, 127


@dataclass(frozen=True, slots=True)
class Privileges:
    """``bounding``: the capabilities that the process and all it starts may ever have; ``last``: the highest number
    that the kernel knows. ``seccomp``: a filter program, empty for none."""

    bounding: int
    last: int
    seccomp: bytes
    no_new_privileges: bool


def drop(identity: Identity, privileges: Privileges, *, setgroups: bool) -> None:
    """Become ``identity`` with no more than ``privileges``.

    The filter is installed before the capabilities go, since without no_new_privs that takes CAP_SYS_ADMIN;
    what follows it (capset, execve) is in every filter that lets programs run at all.
    """
    libc.prctl(libc.PR_SET_KEEPCAPS, 1)
    if setgroups:
        os.setgroups(sorted({identity.gid, *identity.groups}))
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)
    _, permitted, _ = libc.capget()
    libc.capset(permitted, permitted, 0)
    caps.limit(privileges.bounding, privileges.last)
    if privileges.no_new_privileges:
        libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
    if privileges.seccomp:
        libc.seccomp_set_filter(privileges.seccomp)
    kept = permitted & privileges.bounding if identity.uid == 0 else 0
    libc.capset(kept, kept, 0)


def environment(process: Process, identity: Identity) -> dict[str, str]:
    """The process' variables, and HOME from passwd where they have none (as runc does)."""
    return {"HOME": identity.home, **dict(process.env)}


IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)
"""What Python ignores, and execve would inherit."""


def run(args: tuple[str, ...], env: Mapping[str, str]) -> Never:
    """Replace the process, or say on stderr why not and exit with 126 or 127 as a shell does."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    _try(args, env, lambda path: os.execve(path, args, env))
    raise AssertionError("execve returned")


def spawn(args: tuple[str, ...], env: Mapping[str, str]) -> int:
    """The process id of a child, in a session of its own, that runs ``args``; else as `run`.

    Not by fork: the child borrows this process' memory until its execve (posix_spawn(3)), which saves copying a
    Python's page tables, and then its pages one by one as both go on.
    """
    return _try(
        args,
        env,
        lambda path: os.posix_spawn(path, args, env, setsid=True, setsigmask=(), setsigdef=IGNORED),
    )


def _try(args: tuple[str, ...], env: Mapping[str, str], execute: Callable[[str], int]) -> int:
    found = _execute(args, env, execute)
    if isinstance(found, int):
        return found
    status, message = found
    os.write(2, f"layersmith: {message}\n".encode("utf-8", "surrogateescape"))
    os._exit(status)


def _execute(
    args: tuple[str, ...], env: Mapping[str, str], execute: Callable[[str], int]
) -> int | tuple[int, str]:
    """What ``execute`` gives for the first path at which there is a program; the status and message for having failed."""
    if not args or not args[0]:
        return NOT_FOUND, "nothing to execute: the command is empty"
    name = args[0]
    candidates = [name]
    if "/" not in name:
        candidates = [f"{d or '.'}/{name}" for d in env.get("PATH", DEFAULT_PATH).split(":")]
    denied: tuple[int, str] | None = None
    for path in candidates:
        try:
            return execute(path)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR) and not os.path.lexists(path):
                continue
            denied = denied or _why(path, error)
            if error.errno not in (errno.EACCES, errno.ENOENT, errno.ENOTDIR):
                break
        except ValueError as error:  # an embedded NUL
            return NOT_EXECUTABLE, f"exec {name!r}: {error}"
    if denied:
        return denied
    if "/" in name:
        return NOT_FOUND, f"exec {name}: no such file or directory"
    return NOT_FOUND, f"exec {name}: not found in PATH ({env.get('PATH', DEFAULT_PATH)})"


def _why(path: str, error: OSError) -> tuple[int, str]:
    """execve's errno for a ``path`` that is there, in words."""
    if error.errno == errno.ENOENT:
        return NOT_FOUND, f"exec {path}: no such file or directory: {_interpreter(path)}"
    if error.errno == errno.EACCES:
        try:
            status = os.stat(path)
            if stat.S_ISDIR(status.st_mode):
                return NOT_EXECUTABLE, f"exec {path}: it is a directory"
            if not status.st_mode & 0o111:
                return NOT_EXECUTABLE, f"exec {path}: permission denied: it has no x bit (chmod +x)"
        except OSError:
            pass
        return NOT_EXECUTABLE, f"exec {path}: permission denied"
    if error.errno == errno.ENOEXEC:
        return NOT_EXECUTABLE, (
            f"exec {path}: exec format error: is it a script without a #! line, or for another architecture? "
            "(qemu-user-static runs those)"
        )
    return NOT_EXECUTABLE, f"exec {path}: {error.strerror}"


def _interpreter(path: str) -> str:
    """What the file at ``path`` needs to run, and what is then missing."""
    head = b""
    try:
        with open(path, "rb") as file:
            head = file.read(256)
    except OSError:
        pass
    if head.startswith(b"#!"):
        line = head[2:].split(b"\n")[0].strip()
        if line.endswith(b"\r") or b"\r" in head.split(b"\n")[0]:
            return "its #! line ends in a carriage return; save it with Unix line ends"
        interpreter = os.fsdecode(line.split()[0]) if line else ""
        return f"its interpreter {interpreter} is missing"
    if head.startswith(b"\x7fELF"):
        return "its dynamic loader is missing: was it built for another distribution or libc?"
    return "is its interpreter missing?"
