"""Mounting an EROFS image from its file (Linux 6.12, as root). In: a path. Out: a directory of the image's files.

See https://docs.kernel.org/filesystems/erofs.html.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from layersmith.linux import libc

KERNEL = (6, 12)
"""CONFIG_EROFS_FS_BACKED_BY_FILE; before that, an image needed a loop device."""


@cache
def known_to_kernel() -> bool:
    """Whether an image may well be mountable; trying one is the only proof."""
    if libc.kernel_version(os.uname().release) < KERNEL:
        return False
    try:
        os.close(libc.fsopen("erofs"))
    except OSError:
        return False
    return True


def mount_image(image: Path, target: Path) -> None:
    """Mount ``image`` on the directory ``target``, in the mount namespace of the calling process. Raises OSError."""
    file = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # An option has 255 bytes, which not every path fits into.
        mounted = libc.new_mount("erofs", source=f"/proc/self/fd/{file}", ro=None)
    finally:
        os.close(file)
    libc.attach(mounted, target)
