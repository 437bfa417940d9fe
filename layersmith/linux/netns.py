"""Network namespaces: the loopback of a private one, joining an existing one, making one with a name."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import threading
from pathlib import Path

from layersmith.linux import libc

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


def loopback_up() -> None:
    """Bring up ``lo`` in the calling thread's network namespace (netdevice(7)); its addresses come by themselves.

    And let anyone use low ports and ping, as Docker does in a namespace of the container's own.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = fcntl.ioctl(control, SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0))
        flags = struct.unpack("16sH14x", request)[1]
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))
    for name, value in (("ip_unprivileged_port_start", b"0"), ("ping_group_range", b"0 2147483647")):
        with contextlib.suppress(OSError):  # ids that are not mapped; an older kernel
            setting = os.open(f"/proc/sys/net/ipv4/{name}", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(setting, value)
            finally:
                os.close(setting)


def join(path: str) -> None:
    """Enter the network namespace at ``path`` (/proc/PID/ns/net or a bind mount of one)."""
    namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        libc.setns(namespace, libc.CLONE_NEWNET)
    finally:
        os.close(namespace)


def make(path: Path) -> None:
    """A new network namespace with a loopback, mounted on the new file ``path``. Raises OSError.

    A thread goes there and comes not back: namespaces are a thread's own, and the file keeps this one.
    """
    failures: list[OSError] = []

    def run() -> None:
        try:
            libc.unshare(libc.CLONE_NEWNET)
            loopback_up()
            libc.mount("/proc/thread-self/ns/net", os.fspath(path), None, libc.MS_BIND)
        except OSError as error:
            failures.append(error)

    path.touch(exist_ok=True)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        path.unlink()
        raise failures[0]
