"""Network namespaces: the loopback of a private one, and joining an existing one."""

from __future__ import annotations

import fcntl
import os
import socket
import struct

from layersmith.linux import libc

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


def loopback_up() -> None:
    """Bring up ``lo`` in the calling process' network namespace (netdevice(7)); addresses come by themselves."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = fcntl.ioctl(control, SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0))
        flags = struct.unpack("16sH14x", request)[1]
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))


def join(path: str) -> None:
    """Enter the network namespace at ``path`` (/proc/PID/ns/net or a bind mount of one)."""
    namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        libc.setns(namespace, libc.CLONE_NEWNET)
    finally:
        os.close(namespace)
