"""The system call filter. In: the capabilities that a sandbox grants. Out: a classic BPF program for seccomp(2).

Equal in effect to Docker's default profile (moby/profiles, seccomp/default.json), said the other way round: of the
calls that `syscalls` knows these are refused, and what it does not know, newer kernels' calls, is answered with
ENOSYS, so that programs fall back. On top of it ioctls that put words into a terminal's input are refused.
"""

from __future__ import annotations

import errno
import os
import struct
from typing import Final

from layersmith.linux import syscalls

RET_KILL_PROCESS: Final = 0x80000000
RET_ERRNO: Final = 0x00050000
RET_ALLOW: Final = 0x7FFF0000

AUDIT_ARCH: Final = {"x86_64": 0xC000003E, "i386": 0x40000003, "aarch64": 0xC00000B7, "arm": 0x40000028}
COMPATIBLE: Final = {"x86_64": ("x86_64", "i386"), "aarch64": ("aarch64", "arm")}
"""What a machine's kernel also runs, and therefore what a filter has to know."""

NEVER: Final = (
    # keys, swap, kernel images, placing other processes' memory, obsolete file system calls
    "add_key keyctl request_key swapon swapoff kexec_load kexec_file_load move_pages migrate_pages pivot_root "
    "userfaultfd ustat sysfs uselib nfsservctl lsm_get_self_attr lsm_set_self_attr lsm_list_modules "
    # a history of holes; Docker has refused it since 25.0
    "io_uring_setup io_uring_enter io_uring_register "
    # never implemented, or long gone
    "_sysctl afs_syscall bdflush break create_module ftime get_kernel_syms getpmsg gtty idle lock mpx prof profil "
    "putpmsg query_module security stty tuxcall ulimit vserver "
    # 32-bit only, superseded before there were containers
    "get_tls nice oldfstat oldlstat oldolduname oldstat olduname pciconfig_iobase pciconfig_read pciconfig_write "
    "readdir sgetmask sigaction signal sigpending sigsuspend ssetmask usr26 usr32 vm86 vm86old"
)
"""Calls that no capability brings back."""

WITH_CAPABILITY: Final = {
    "CAP_BPF": "bpf",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_PERFMON": "perf_event_open",
    "CAP_SYSLOG": "syslog",
    "CAP_SYS_ADMIN": (
        "bpf clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr move_mount open_tree "
        "perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare"
    ),
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module finit_module init_module",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "CAP_SYS_RAWIO": "ioperm iopl",
    "CAP_SYS_TIME": "clock_settime clock_settime64 settimeofday stime",
    "CAP_SYS_TTY_CONFIG": "vhangup",
}
"""Calls that need any one of the capabilities that list them."""

NEW_NAMESPACES: Final = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET."""

PERSONALITIES: Final = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
"""PER_LINUX, PER_LINUX32, both with UNAME26, and the question."""

AF_ALG, AF_VSOCK = 38, 40
"""The kernel's crypto interface, and the way to a virtual machine's host."""

TIOCSTI, TIOCLINUX = 0x5412, 0x541C

# struct sock_filter: opcode, jump if true, jump if false, operand
Instruction = tuple[int, int, int, int]
LOAD, JUMP, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x05, 0x15, 0x35, 0x45, 0x06
NUMBER_OFFSET, ARCH_OFFSET = 0, 4


def program(capabilities: frozenset[str], machine: str = os.uname().machine) -> bytes:
    """The filter as struct sock_filter[] in this machine's byte order; empty where ``machine`` is unknown.

    Another architecture's call kills the process, an x32 call gets ENOSYS, a refused call EPERM.
    """
    if machine not in COMPATIBLE:
        return b""
    code: list[Instruction] = [(LOAD, 0, 0, ARCH_OFFSET)]
    for architecture in COMPATIBLE[machine]:
        block = [(LOAD, 0, 0, NUMBER_OFFSET), *_search(_decisions(architecture, capabilities))]
        code += [(EQUAL, 1, 0, AUDIT_ARCH[architecture]), (JUMP, 0, 0, len(block)), *block]
    code.append((RETURN, 0, 0, RET_KILL_PROCESS))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def refused(capabilities: frozenset[str]) -> frozenset[str]:
    """The names of all calls that a process with ``capabilities`` may not make, whatever their arguments."""
    conditional = {name for names in WITH_CAPABILITY.values() for name in names.split()}
    granted = {name for c in capabilities for name in WITH_CAPABILITY.get(c, "").split()}
    return frozenset(NEVER.split()) | (conditional - granted)


def _decisions(architecture: str, capabilities: frozenset[str]) -> list[tuple[int, list[Instruction]]]:
    """(first number, what to do from there on), by number; runs of the same decision are one."""
    denied = refused(capabilities)
    special = _argument_rules(capabilities)
    unknown = _return(RET_ERRNO | errno.ENOSYS)
    runs = [(0, unknown)]
    following = 0
    for name, number in sorted(syscalls.numbers(architecture).items(), key=lambda item: item[1]):
        verdict = _return(RET_ERRNO | errno.EPERM) if name in denied else _return(RET_ALLOW)
        if name == "clone3" and name in denied:
            verdict = unknown  # its flags lie in memory, out of a filter's sight; C libraries then use clone
        if number > following:
            runs.append((following, unknown))
        runs.append((number, special.get(name, verdict)))
        following = number + 1
    runs.append((following, unknown))
    return [
        run
        for previous, run in zip([None, *runs], runs, strict=False)
        if not previous or previous[1] != run[1]
    ]


def _argument_rules(capabilities: frozenset[str]) -> dict[str, list[Instruction]]:
    allow, refuse = RET_ALLOW, RET_ERRNO | errno.EPERM
    rules = {
        "personality": _compare(0, EQUAL, PERSONALITIES, then=allow, otherwise=refuse),
        "socket": _compare(0, EQUAL, (AF_ALG, AF_VSOCK), then=refuse, otherwise=allow),
        "ioctl": _compare(1, EQUAL, (TIOCSTI, TIOCLINUX), then=refuse, otherwise=allow),
    }
    if "CAP_SYS_ADMIN" not in capabilities:
        rules["clone"] = _compare(0, ANY_BIT, (NEW_NAMESPACES,), then=refuse, otherwise=allow)
    return rules


def _compare(
    argument: int, test: int, values: tuple[int, ...], *, then: int, otherwise: int
) -> list[Instruction]:
    """Test the low 32 bits of an argument, all that the kernel itself looks at in these calls."""
    code: list[Instruction] = [(LOAD, 0, 0, 16 + 8 * argument)]
    for index, value in enumerate(values):
        code.append((test, len(values) - index, 0, value))
    return [*code, *_return(otherwise), *_return(then)]


def _return(action: int) -> list[Instruction]:
    return [(RETURN, 0, 0, action)]


def _search(runs: list[tuple[int, list[Instruction]]]) -> list[Instruction]:
    """A binary search for the accumulator among ``runs``: a system call costs a dozen instructions, not hundreds."""
    if len(runs) == 1:
        return runs[0][1]
    middle = len(runs) // 2
    below, above = _search(runs[:middle]), _search(runs[middle:])
    if len(below) < 256:
        return [(AT_LEAST, len(below), 0, runs[middle][0]), *below, *above]
    return [(AT_LEAST, 0, 1, runs[middle][0]), (JUMP, 0, 0, len(below)), *below, *above]
