"""Attempts to get out of a sandbox, run inside it by test_escape. Prints a JSON object: attempt -> how it ended.

An attempt that returns has escaped; what it returns says how. One that raises OSError was held back, and the errno's
name is printed. Every attempt runs in a process of its own, since some may end it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import pty
import signal
import socket
import stat
import sys
from collections.abc import Callable
from pathlib import Path

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
FORBIDDEN = "canary"
FAR = -100  # AT_FDCWD
NR = {
    "x86_64": {
        "mount": 165, "umount2": 166, "clone": 56, "unshare": 272, "setns": 308, "keyctl": 250, "add_key": 248, "request_key": 249, "bpf": 321,
        "perf_event_open": 298, "kexec_load": 246, "init_module": 175, "reboot": 169, "swapon": 167, "iopl": 172,
        "settimeofday": 164, "open_by_handle_at": 304, "userfaultfd": 323, "personality": 135, "ptrace": 101,
        "pivot_root": 155, "acct": 163, "syslog": 103,
    },
    "aarch64": {
        "mount": 40, "umount2": 39, "clone": 220, "unshare": 97, "setns": 268, "keyctl": 219, "add_key": 217, "request_key": 218, "bpf": 280,
        "perf_event_open": 241, "kexec_load": 104, "init_module": 105, "reboot": 142, "swapon": 224, "settimeofday": 170,
        "open_by_handle_at": 265, "userfaultfd": 282, "personality": 92, "ptrace": 117, "pivot_root": 41,
        "acct": 89, "syslog": 116,
    },
}[os.uname().machine] | {
    "io_uring_setup": 425, "open_tree": 428, "fsopen": 430, "clone3": 435, "mount_setattr": 442,
}  # fmt: skip
ATTEMPTS: dict[str, Callable[[], object]] = {}


def attempt(function: Callable[[], object]) -> Callable[[], object]:
    ATTEMPTS[function.__name__] = function
    return function


def call(name: str, *args: int | bytes | None) -> int:
    """A raw system call; OSError on failure."""
    if name not in NR:
        raise OSError(errno.ENOSYS, name)
    words = [ctypes.c_long(a) if isinstance(a, int) else ctypes.c_char_p(a) for a in args]
    result = int(libc.syscall(ctypes.c_long(NR[name]), *words))
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


def refused(message: str) -> OSError:
    return OSError(errno.EACCES, message)


# Mounts


@attempt
def mount_tmpfs() -> object:
    return call("mount", b"none", b"/tmp", b"tmpfs", 0, None)


@attempt
def mount_proc() -> object:
    return call("mount", b"proc", b"/tmp", b"proc", 0, None)


@attempt
def mount_cgroup() -> object:
    return call("mount", b"cgroup", b"/tmp", b"cgroup", 0, b"memory")


@attempt
def mount_disk() -> object:
    return call("mount", b"/dev/vda", b"/tmp", b"ext4", 0, None)


@attempt
def unmask_proc() -> object:
    return call("umount2", b"/proc/sys", 2)


@attempt
def remount_sys_writable() -> object:
    return call("mount", None, b"/sys", None, 0x20 | 0x1000, None)


@attempt
def new_mount_api() -> object:
    return call("fsopen", b"tmpfs", 0)


@attempt
def open_tree() -> object:
    return call("open_tree", FAR, b"/", 1)


@attempt
def mount_setattr() -> object:
    return call("mount_setattr", FAR, b"/proc/sys", 0, bytes(32), 32)


@attempt
def pivot_root() -> object:
    return call("pivot_root", b".", b".")


# Devices


def disk() -> int:
    """The device of some disk of the machine: the one below a bind mount of it, or the first virtio or SCSI disk."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        major, minor = map(int, line.split()[2].split(":"))
        if major:
            return os.makedev(major, minor)
    return os.makedev(8, 0)


def open_node(path: str, kind: int, device: int) -> bytes:
    os.mknod(path, kind | 0o600, device)
    try:
        descriptor = os.open(path, os.O_RDONLY)
    finally:
        os.unlink(path)
    return os.read(descriptor, 1)


@attempt
def raw_disk() -> object:
    return open_node("/tmp/disk", stat.S_IFBLK, disk())


@attempt
def raw_disk_in_dev() -> object:
    return open_node("/dev/disk", stat.S_IFBLK, disk())


@attempt
def raw_disk_in_shm() -> object:
    return open_node("/dev/shm/disk", stat.S_IFBLK, disk())


@attempt
def own_device_node() -> object:
    """No node that the container made itself works, not even a harmless one."""
    return open_node("/tmp/zero", stat.S_IFCHR, os.makedev(1, 5))


@attempt
def physical_memory() -> object:
    return open_node("/dev/mem", stat.S_IFCHR, os.makedev(1, 1))


@attempt
def kernel_log_device() -> object:
    return open_node("/tmp/kmsg", stat.S_IFCHR, os.makedev(1, 11))


# /proc and /sys


def write(path: str, data: bytes) -> object:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        return os.write(descriptor, data)
    finally:
        os.close(descriptor)


@attempt
def sysrq() -> object:
    return write("/proc/sysrq-trigger", b"h")


@attempt
def core_pattern() -> object:
    return write("/proc/sys/kernel/core_pattern", b"core")


@attempt
def sysctl() -> object:
    return write("/proc/sys/vm/overcommit_memory", b"0")


@attempt
def modprobe_path() -> object:
    return write("/proc/sys/kernel/modprobe", b"/tmp/x")


@attempt
def uevent_helper() -> object:
    return write("/sys/kernel/uevent_helper", b"/tmp/x")


@attempt
def power_state() -> object:
    return os.open("/sys/power/state", os.O_WRONLY)


@attempt
def kernel_memory() -> object:
    data = Path("/proc/kcore").read_bytes()
    if not data:
        raise refused("masked")
    return len(data)


@attempt
def key_list() -> object:
    data = Path("/proc/keys").read_bytes()
    if not data:
        raise refused("masked")
    return data


@attempt
def firmware() -> object:
    names = os.listdir("/sys/firmware")
    if not names:
        raise refused("masked")
    return names


@attempt
def cgroup_release_agent() -> object:
    found = [p for p in Path("/sys/fs/cgroup").rglob("release_agent") if p.is_file()]
    if not found:
        raise FileNotFoundError(errno.ENOENT, "release_agent")
    return os.open(found[0], os.O_WRONLY)


# Namespaces


def try_clone(flags: int) -> object:
    pid = call("clone", flags | signal.SIGCHLD, None, None, None, None)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


@attempt
def clone_user_namespace() -> object:
    return try_clone(0x10000000)


@attempt
def clone_mount_namespace() -> object:
    return try_clone(0x00020000)


@attempt
def clone3() -> object:
    return call("clone3", bytes(64), 64)


@attempt
def unshare_user() -> object:
    return call("unshare", 0x10000000)


@attempt
def unshare_mount() -> object:
    return call("unshare", 0x00020000)


@attempt
def setns_init() -> object:
    return call("setns", os.open("/proc/1/ns/mnt", os.O_RDONLY), 0)


# The kernel


@attempt
def keyctl() -> object:
    return call("keyctl", 0, -3, 0)


@attempt
def add_key() -> object:
    return call("add_key", b"user", b"x", b"y", 1, -3)


@attempt
def request_key() -> object:
    return call("request_key", b"user", b"x", None, -3)


@attempt
def bpf() -> object:
    return call("bpf", 0, bytes(128), 128)


@attempt
def perf_event_open() -> object:
    return call("perf_event_open", bytes(128), 0, -1, -1, 0)


@attempt
def kexec_load() -> object:
    return call("kexec_load", 0, 0, None, 0)


@attempt
def init_module() -> object:
    return call("init_module", bytes(8), 8, b"")


@attempt
def reboot() -> object:
    return call("reboot", 0xFEE1DEAD - (1 << 32), 672274793, 0, None)  # only turns Ctrl-Alt-Del off


@attempt
def swapon() -> object:
    return call("swapon", b"/tmp/none", 0)


@attempt
def iopl() -> object:
    return call("iopl", 3)


@attempt
def settimeofday() -> object:
    return call("settimeofday", None, bytes(8))


@attempt
def open_by_handle_at() -> object:
    """The way out of a chroot that CVE-2014-3519 (Shocker) used."""
    return call("open_by_handle_at", FAR, bytes(136), 0)


@attempt
def userfaultfd() -> object:
    return call("userfaultfd", 0)


@attempt
def io_uring() -> object:
    return call("io_uring_setup", 1, bytes(120))


@attempt
def no_address_randomisation() -> object:
    return call("personality", 0x0040000)


@attempt
def kernel_log() -> object:
    return call("syslog", 3, bytes(16), 16)


@attempt
def accounting() -> object:
    return call("acct", b"/tmp/acct")


@attempt
def virtual_machine_socket() -> object:
    return socket.socket(40, socket.SOCK_STREAM)


@attempt
def x32_call() -> object:
    if os.uname().machine != "x86_64":
        raise OSError(errno.ENOSYS, "x32")
    result = libc.syscall(ctypes.c_long(0x40000000 | 39))
    if result < 0:
        raise OSError(ctypes.get_errno(), "x32")
    return result


# Other processes, files and terminals


@attempt
def ptrace_init() -> object:
    return call("ptrace", 16, 1, 0, 0)


@attempt
def memory_of_init() -> object:
    with open("/proc/1/maps") as maps:
        start = int(maps.readline().split("-")[0] or "0", 16)
    descriptor = os.open("/proc/1/mem", os.O_RDONLY)
    return os.pread(descriptor, 4, start)


@attempt
def program_of_init() -> object:
    """Overwriting the host's program through /proc/1/exe (CVE-2019-5736)."""
    return os.readlink("/proc/1/exe")


@attempt
def environment_of_init() -> object:
    return Path("/proc/1/environ").read_bytes()


@attempt
def descriptors_of_init() -> object:
    names = os.listdir("/proc/1/fd")
    if not names:
        raise refused("it has none")
    return names


@attempt
def root_of_init() -> object:
    return os.listdir("/proc/1/root/" + os.environ["CANARY"])


@attempt
def signal_the_host() -> object:
    os.kill(int(os.environ["HOST_PID"]), 0)
    return "there"


@attempt
def foreign_processes() -> object:
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    commands = [Path(f"/proc/{p}/cmdline").read_bytes() for p in pids if p != 1]
    if all(b"escape" in c or not c for c in commands):
        raise refused("only our own")
    return commands


@attempt
def canary_on_the_host() -> object:
    return Path(os.environ["CANARY"]).read_text()


@attempt
def the_upper_directory() -> object:
    """Paths of the store from the overlay's options, read from inside."""
    options = Path("/proc/self/mounts").read_text().split("upperdir=")[1].split(",")[0]
    return os.listdir(options)


@attempt
def leaked_descriptor() -> object:
    others = [n for n in os.listdir("/proc/self/fd") if int(n) > 2]
    for name in others:
        with contextlib.suppress(OSError):
            if stat.S_ISDIR(os.stat(f"/proc/self/fd/{name}").st_mode):
                return os.readlink(f"/proc/self/fd/{name}")
    raise FileNotFoundError(errno.ENOENT, "none")


@attempt
def chroot_and_climb() -> object:
    """The classic: a working directory above the root. It ends at the container's own root."""
    inside = os.stat("/").st_ino, os.stat("/").st_dev
    os.makedirs("/tmp/jail", exist_ok=True)
    above = os.open("/", os.O_RDONLY)
    os.chroot("/tmp/jail")
    os.fchdir(above)
    for _ in range(64):
        os.chdir("..")
    found = os.stat(".")
    if (found.st_ino, found.st_dev) == inside:
        raise refused("still inside")
    return os.listdir(".")


@attempt
def write_to_read_only_mount() -> object:
    return os.open(os.environ["READ_ONLY"] + "/new", os.O_CREAT | os.O_WRONLY)


@attempt
def type_into_a_terminal() -> object:
    """TIOCSTI, on a terminal that this process controls: on the caller's it would type commands."""
    pid, controller = pty.fork()
    if pid == 0:
        try:
            fcntl.ioctl(0, 0x5412, b"x")
        except OSError as error:
            os._exit(error.errno or 1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(controller)
    if status:
        raise OSError(status, "TIOCSTI")
    return "typed"


@attempt
def host_name() -> object:
    socket.sethostname("owned")
    return socket.gethostname()


@attempt
def abstract_socket_of_the_host() -> object:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("\0" + os.environ["ABSTRACT"])
    return "connected"


@attempt
def kill_init() -> object:
    os.kill(1, signal.SIGKILL)
    os.kill(1, 0)
    raise refused("it lives")


def outcome(function: Callable[[], object]) -> str:
    """How ``function`` ended, from a child process."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(5)
        try:
            said = f"escaped: {function()!r}"
        except OSError as error:
            said = errno.errorcode.get(error.errno or 0, str(error))
        except BaseException as error:
            said = f"broken: {error!r}"
        os.write(writer, said.encode()[:4000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        text = file.read().decode()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return text or f"killed: {status}"


if __name__ == "__main__":
    wanted = sys.argv[1:] or list(ATTEMPTS)
    print(json.dumps({name: outcome(ATTEMPTS[name]) for name in wanted}))
