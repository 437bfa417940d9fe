"""EXECUTE: what a sandbox mounts onto, as a directory below all layers. In: an empty directory. Out: the same, filled.

Images seldom have all of it. Made in the upper directory of each RUN (`linux.stubs`) it would have to be removed from
there again, and the directories with it that were copied up to hold it.
"""

from __future__ import annotations

from pathlib import Path

DIRECTORIES = ("dev", "etc", "proc", "sys")
FILES = ("etc/hosts", "etc/resolv.conf")


def make_mount_points(directory: Path) -> Path:
    """Fill ``directory`` with empty files and directories, and make it look like any image's root."""
    for name in DIRECTORIES:
        (directory / name).mkdir()
    for name in FILES:
        (directory / name).touch()
        (directory / name).chmod(0o644)
    for name in (*DIRECTORIES, "."):
        (directory / name).chmod(0o755)
    return directory
