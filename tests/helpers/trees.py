"""What two trees of files must agree on to be the same image: `look` at each, then `differences`.

As a program, ``trees.py ROOT`` writes `look` as JSON: for a tree that is mounted where only the caller's child sees it.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from collections import defaultdict
from pathlib import Path

Node = dict[str, object]
Tree = dict[str, Node]

KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}


def look(root: Path) -> Tree:
    """Every path below ``root``, itself as ``.``, with all that a layer has to keep; times in whole seconds."""
    tree: Tree = {}
    names: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
    top = os.fspath(root)
    for directory, subdirectories, files in os.walk(top):
        inside = [os.path.join(directory, name) for name in (*subdirectories, *files)]
        for path in [top, *inside] if directory == top else inside:
            relative = os.path.relpath(path, top)
            status = os.lstat(path)
            tree[relative] = node(path, status)
            if not stat.S_ISDIR(status.st_mode):
                names[status.st_dev, status.st_ino].append(relative)
    for group in names.values():
        for relative in group:
            tree[relative]["hard links"] = sorted(group)
    return tree


def node(path: str, status: os.stat_result) -> Node:
    kind = stat.S_IFMT(status.st_mode)
    found: Node = {
        "type": KINDS[kind],
        "mode": oct(stat.S_IMODE(status.st_mode)),
        "owner": f"{status.st_uid}:{status.st_gid}",
        "mtime": status.st_mtime_ns // 10**9,
        "xattrs": {
            name: os.getxattr(path, name, follow_symlinks=False).hex()
            for name in sorted(os.listxattr(path, follow_symlinks=False))
        },
    }
    if kind == stat.S_IFREG:
        found["size"] = status.st_size
        with open(path, "rb") as file:
            found["content"] = hashlib.file_digest(file, "sha256").hexdigest()
    elif kind == stat.S_IFLNK:
        found["target"] = os.readlink(path)
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        found["device"] = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    return found


def differences(ours: Tree, theirs: Tree) -> list[str]:
    """A line for each path and attribute in which the trees differ."""
    lines = [f"{path!r}: only in the first" for path in sorted(ours.keys() - theirs.keys())]
    lines += [f"{path!r}: only in the second" for path in sorted(theirs.keys() - ours.keys())]
    for path in sorted(ours.keys() & theirs.keys()):
        for what in sorted(ours[path].keys() | theirs[path].keys()):
            a, b = ours[path].get(what), theirs[path].get(what)
            if a != b:
                lines.append(f"{path!r}: {what}: {a!r} != {b!r}")
    return lines


if __name__ == "__main__":
    json.dump(look(Path(sys.argv[1])), sys.stdout)
