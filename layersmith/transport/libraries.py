"""Where the dynamic linker finds libraries, by the rules of ld.so(8). In: ELF files of this machine. Out: paths."""

from __future__ import annotations

import glob
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from layersmith.transport.elf import Elf, read_elf

_DEFAULTS = ("/lib64", "/usr/lib64", "/lib", "/usr/lib", "/lib32", "/usr/lib32", "/libx32", "/usr/libx32")
_CONF = "/etc/ld.so.conf"
_CACHE = "/etc/ld.so.cache"
_CACHE_MAGIC = b"glibc-ld.so.cache1.1"
_MAX_CONF_DEPTH = 10


class Libraries:
    """Finds libraries as ld.so of this machine would."""

    def __init__(self) -> None:
        self._cache = read_cache(Path(_CACHE))
        self._configured = (*configured_directories(Path(_CONF)), *_musl_directories())

    def find(self, name: str, user: Elf, origin: str, inherited: tuple[str, ...]) -> str | None:
        """The path of library ``name``, which the file ``user`` in directory ``origin`` needs; None if there is none.

        ``inherited`` are the RPATHs of what loaded ``user``, expanded. $LD_LIBRARY_PATH is not looked at: it is not
        part of the image.
        """
        if "/" in name:
            candidates: Iterator[str] = iter([name])
        else:
            candidates = self._candidates(name, user, origin, inherited)
        for path in candidates:
            if _fits(path, user):
                return path
        return None

    def _candidates(self, name: str, user: Elf, origin: str, inherited: tuple[str, ...]) -> Iterator[str]:
        # RUNPATH, if there is one, turns RPATHs off, its own and inherited ones.
        before = (
            expanded(user.runpath, origin) if user.runpath else (*expanded(user.rpath, origin), *inherited)
        )
        for directory in before:
            yield f"{directory}/{name}"
        yield from self._cache.get(name, ())
        if user.default_directories:
            for directory in (*self._configured, *_DEFAULTS):
                yield f"{directory}/{name}"


def expanded(paths: tuple[str, ...], origin: str) -> tuple[str, ...]:
    """Directories of an RPATH or RUNPATH with $ORIGIN replaced; those with other variables are left out."""
    found = []
    for path in paths:
        for variable in ("${ORIGIN}", "$ORIGIN"):
            path = path.replace(variable, origin)
        if "$" not in path:
            found.append(path)
    return tuple(found)


def _fits(path: str, user: Elf) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        elf = read_elf(fd)
    finally:
        os.close(fd)
    return elf is not None and elf.machine == user.machine


def configured_directories(conf: Path, depth: int = 0) -> tuple[str, ...]:
    """The directories in ld.so.conf and in the files that it includes, in order."""
    try:
        lines = conf.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return ()
    found: list[str] = []
    for line in lines:
        words = line.partition("#")[0].split()
        if words[:1] == ["include"]:
            for pattern in words[1:] if depth < _MAX_CONF_DEPTH else ():
                for path in sorted(glob.glob(str(conf.parent / pattern))):
                    found += configured_directories(Path(path), depth + 1)
        elif words and words[0] != "hwcap":
            found.append(words[0].rstrip("/") or "/")
    return tuple(dict.fromkeys(found))


def _musl_directories() -> tuple[str, ...]:
    found: list[str] = []
    for path in sorted(Path("/etc").glob("ld-musl-*.path")):
        found += path.read_text(errors="surrogateescape").replace(":", "\n").split()
    return tuple(found)


def read_cache(path: Path) -> dict[str, tuple[str, ...]]:
    """Library name -> paths, as ldconfig has written them (glibc's dl-cache.h, new format); empty if unreadable.

    Entries for particular hardware (glibc-hwcaps) are left out: the image is to run on other machines, too.
    """
    try:
        data = path.read_bytes()
    except OSError:
        return {}
    start = data.find(_CACHE_MAGIC)
    if start < 0:
        return {}
    try:
        count = struct.unpack_from("=I", data, start + 20)[0]
        found: dict[str, tuple[str, ...]] = {}
        for number in range(count):
            _, key, value, _, hwcap = struct.unpack_from("=iIIIQ", data, start + 48 + number * 24)
            if hwcap == 0:
                name, where = (os.fsdecode(_text(data, start + at)) for at in (key, value))
                found[name] = (*found.get(name, ()), where)
    except (struct.error, ValueError):
        return {}
    return found


def _text(data: bytes, at: int) -> bytes:
    return data[at : data.index(b"\0", at)]
