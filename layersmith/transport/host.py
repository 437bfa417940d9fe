"""`import --host`: a small base image from programs of this machine. In: their names. Out: an image of one layer.

Each program comes with what it can't start without: the ELF interpreter, the libraries that it and they need, the
interpreter of a script. Every path keeps its symlinks (``/bin``, ``/etc/alternatives``, ``libc.so.6``), so the programs
find each other where they do here. Around them goes the least that programs expect: users, /tmp, mount points.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import stat
from collections.abc import Iterator, Sequence

from layersmith.dataclass import dataclass, replace
from layersmith.errors import NotFoundError, TransportError, UsageError
from layersmith.layer.entry import DIR, LNK, REG, SYM, Entry, Item
from layersmith.oci.descriptor import Descriptor
from layersmith.store import Store
from layersmith.transport.elf import Elf, read_elf
from layersmith.transport.libraries import Libraries, expanded
from layersmith.transport.rootfs import DEFAULTS, ImportOptions, import_items

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MAX_LINKS = 40
_DIRECTORIES = {
    **dict.fromkeys(("dev", "etc", "home", "proc", "run", "sys", "usr/bin", "var"), 0o755),
    "root": 0o700,
    "tmp": 0o1777,
    "var/tmp": 0o1777,
}
_FILES = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "etc/group": b"root:x:0:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": b"passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
}
_NAME_SERVICES = ("libnss_files.so.2", "libnss_dns.so.2")
"""What glibc loads for the names in nsswitch.conf; no file says that it needs them."""


def import_host(store: Store, programs: Sequence[str], options: ImportOptions = DEFAULTS) -> Descriptor:
    """An image with ``programs``: names looked up in PATH, or absolute paths; a directory comes with all below it.

    Its environment has a PATH, and its command is the first program.

    Raises:
        NotFoundError: there is no such program, or a library that one needs is missing.
        UsageError: none is given.
    """
    if not programs:
        raise UsageError("import --host needs a program", hint="layersmith import --host sh ls cat demo")
    collected = Collection()
    found = [collected.add_program(name) for name in programs]
    collected.add_surroundings()
    command = next((path for path in found if path is not None), None)
    message = options.message or f"Programs of the host: {' '.join(programs)}"
    return import_items(
        store,
        collected.items(options.epoch),
        "the host",
        replace(options, message=message),
        env=(f"PATH={PATH}",),
        cmd=None if command is None else (command,),
    )


@dataclass(frozen=True, slots=True)
class _Node:
    """A file of the image: ``source`` on this machine, or ``data``, or a symlink's ``target``; else a directory."""

    mode: int = 0o755
    source: str = ""
    data: bytes | None = None
    target: str = ""


class Collection:
    """The files of the image, by path without the leading slash."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Node] = {}
        self._libraries = Libraries()
        self._loaded: set[tuple[str, tuple[str, ...]]] = set()
        self._default_directory = ""

    def add_program(self, name: str) -> str | None:
        """Add a program with all that it needs; the path where it will be found, or None for a directory."""
        path = _which(name)
        if os.path.isdir(path):
            self._add_tree(path)
            return None
        self._add_executable(path)
        return self._link_into_path(path)

    def _add_tree(self, top: str) -> None:
        for directory, subdirectories, files in os.walk(self._add(top)):
            subdirectories.sort()
            self._add(directory)
            for name in (*files, *(name for name in subdirectories if os.path.islink(f"{directory}/{name}"))):
                path = f"{directory}/{name}"
                if os.path.islink(path):
                    self._nodes[path[1:]] = _Node(target=os.readlink(path))
                elif os.path.isfile(path):
                    self._add_executable(path)

    def _add_executable(self, path: str) -> None:
        real = self._add(path)
        with open(real, "rb", buffering=0) as file:
            elf = read_elf(file.fileno())
            first = b"" if elf is not None else os.pread(file.fileno(), 256, 0)
        if elf is not None:
            self._add_needs(elf, real, ())
        elif first.startswith(b"#!"):
            self._add_interpreter(os.fsdecode(first[2:].split(b"\n")[0]), path)

    def _add_interpreter(self, line: str, script: str) -> None:
        words = line.split()
        if not words or not os.path.exists(words[0]):
            return
        self._add_executable(words[0])
        if posixpath.basename(words[0]) == "env":
            program = next((word for word in words[1:] if not word.startswith("-") and "=" not in word), None)
            if program is not None and shutil.which(program) is None:
                raise NotFoundError(f"{script} runs {program}, which is not on this machine")
            if program is not None:
                self.add_program(program)

    def _add_needs(self, elf: Elf, real: str, inherited: tuple[str, ...]) -> None:
        if (real, inherited) in self._loaded:
            return
        self._loaded.add((real, inherited))
        if elf.interpreter:
            self._add(elf.interpreter)
        origin = posixpath.dirname(real)
        passed_on = inherited if elf.runpath else (*expanded(elf.rpath, origin), *inherited)
        needed = [*elf.needed, *(_NAME_SERVICES if posixpath.basename(real).startswith("libc.so") else ())]
        for name in needed:
            path = self._libraries.find(name, elf, origin, inherited)
            if path is None:
                if name in _NAME_SERVICES:
                    continue
                raise NotFoundError(
                    f"{real} needs the library {name}, which is not on this machine",
                    hint="install it, or leave out the program",
                )
            library = self._add(path)
            if name == "libc.so.6":
                self._default_directory = posixpath.dirname(path)
            with open(library, "rb", buffering=0) as file:
                found = read_elf(file.fileno())
            if found is not None:
                self._add_needs(found, library, passed_on)
            self._needed_at(name, path, elf)

    def _needed_at(self, name: str, path: str, user: Elf) -> None:
        """Without an ld.so.cache in the image, a library in a directory from ld.so.conf needs a link in a default one."""
        directory = posixpath.dirname(path)
        searched = "/" in name or user.runpath or user.rpath
        if searched or not self._default_directory or directory in _always_searched(self._default_directory):
            return
        self._nodes.setdefault(f"{self._real(self._default_directory)[1:]}/{name}", _Node(target=path))

    def _real(self, path: str) -> str:
        return os.path.realpath(path)

    def _add(self, path: str) -> str:
        """Add the file or directory at ``path``, and every symlink and directory on the way to it; its real path."""
        todo = [part for part in path.split("/") if part][::-1]
        here: list[str] = []
        links = 0
        while todo:
            name = todo.pop()
            if name in (".", ""):
                continue
            if name == "..":
                del here[-1:]
                continue
            at = "/".join((*here, name))
            mode = os.lstat("/" + at).st_mode
            if stat.S_ISLNK(mode):
                links += 1
                if links > _MAX_LINKS:
                    raise TransportError(f"{path}: more than {_MAX_LINKS} symbolic links on the way")
                target = os.readlink("/" + at)
                self._nodes[at] = _Node(target=target)
                if target.startswith("/"):
                    here = []
                todo += target.split("/")[::-1]
                continue
            here.append(name)
            if stat.S_ISDIR(mode):
                self._nodes.setdefault(at, _Node())
            elif stat.S_ISREG(mode):
                # setuid programs of the host are not to be trusted with root in every container made from this.
                self._nodes[at] = _Node(mode=mode & 0o777, source="/" + at)
            else:
                raise TransportError(f"/{at} is neither a file nor a directory")
        return "/" + "/".join(here)

    def _link_into_path(self, path: str) -> str:
        """Have the program found in /usr/bin, which the image's PATH has, wherever it lies here."""
        name = posixpath.basename(path)
        if posixpath.dirname(path) in PATH.split(":"):
            return path
        self._nodes.setdefault(f"usr/bin/{name}", _Node(target=path))
        return f"/usr/bin/{name}"

    def add_surroundings(self) -> None:
        """Add what programs expect to be there. ``/bin`` and the like are links or directories, as here."""
        for name in ("bin", "sbin", "lib", "lib64"):
            if os.path.islink("/" + name) and os.path.isdir("/" + name):
                self._add("/" + name)
            elif name == "bin":
                self._nodes.setdefault(name, _Node())
        for path, mode in _DIRECTORIES.items():
            self._nodes[path] = _Node(mode=mode)
        for path, data in _FILES.items():
            self._nodes.setdefault(path, _Node(mode=0o644, data=data))
        if "usr/bin/sh" in self._nodes and "bin" in self._nodes and not self._nodes["bin"].target:
            self._nodes.setdefault("bin/sh", _Node(target="/usr/bin/sh"))

    def items(self, epoch: int | None) -> Iterator[Item]:
        """The collected files, parents first. Owners are root; what has no time of its own has ``epoch``, or 1970."""
        made = epoch or 0
        inodes: dict[tuple[int, int], bytes] = {}
        for path in sorted(self._with_parents(), key=lambda path: path.split("/")):
            node = self._nodes.get(path, _Node())
            name = os.fsencode(path)
            if node.target:
                yield Entry(name, SYM, 0o777, mtime=made, link=os.fsencode(node.target)), None
            elif node.data is not None:
                yield Entry(name, REG, node.mode, mtime=made, size=len(node.data)), node.data
            elif node.source:
                yield from self._file_item(name, node, inodes)
            else:
                yield Entry(name, DIR, node.mode, mtime=made), None

    def _file_item(self, name: bytes, node: _Node, inodes: dict[tuple[int, int], bytes]) -> Iterator[Item]:
        fd = os.open(node.source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            status = os.fstat(fd)
            mtime = int(status.st_mtime)
            first = inodes.setdefault((status.st_dev, status.st_ino), name)
            if first != name:
                yield Entry(name, LNK, node.mode, mtime=mtime, link=first), None
            else:
                yield Entry(name, REG, node.mode, mtime=mtime, size=status.st_size), fd
        finally:
            os.close(fd)

    def _with_parents(self) -> set[str]:
        found = set(self._nodes)
        for path in self._nodes:
            while path := path.rpartition("/")[0]:
                found.add(path)
        return found


def _always_searched(default: str) -> tuple[str, ...]:
    """Directories that ld.so tries without being told."""
    same = {default, os.path.realpath(default)}
    return (*same, *(f"/usr{path}" for path in same), "/lib", "/usr/lib", "/lib64", "/usr/lib64")


def _which(name: str) -> str:
    if "/" in name:
        path = os.path.abspath(name)
        if os.path.exists(path):
            return path
    else:
        found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{PATH}")
        if found is not None:
            return os.path.abspath(found)
    raise NotFoundError(
        f"there is no program {name!r} on this machine", hint="install it, or give its full path"
    )
