"""The ELF reader and ld.so's search, against the programs of this machine and files made by hand."""

import os
import random
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from layersmith.transport.elf import Elf, read_elf
from layersmith.transport.libraries import Libraries, configured_directories, expanded, read_cache


def elf_of(path: str | Path) -> Elf | None:
    fd = os.open(path, os.O_RDONLY)
    try:
        return read_elf(fd)
    finally:
        os.close(fd)


def make_elf(
    *,
    wide: bool = True,
    little: bool = True,
    needed: tuple[str, ...] = (),
    interpreter: str = "",
    **paths: str,
) -> bytes:
    """A file with one loaded segment that holds its interpreter, its strings and its dynamic table."""
    order = "<" if little else ">"
    strings, offsets = b"\0", {}
    for text in (*needed, *paths.values()):
        offsets[text] = len(strings)
        strings += os.fsencode(text) + b"\0"
    entry = struct.Struct(order + ("qQ" if wide else "iI"))
    header_size, program_size = (64, 56) if wide else (52, 32)
    base = 0x400000
    body_at = header_size + 3 * program_size
    interp = os.fsencode(interpreter) + b"\0"
    strings_at = body_at + len(interp)
    tags = [(1, offsets[text]) for text in needed]
    tags += [({"rpath": 15, "runpath": 29}[key], offsets[text]) for key, text in paths.items()]
    tags += [(5, base + strings_at), (10, len(strings)), (0, 0)]
    dynamic = b"".join(entry.pack(*tag) for tag in tags)
    dynamic_at = strings_at + len(strings)
    total = dynamic_at + len(dynamic)

    def program(kind: int, offset: int, size: int) -> bytes:
        if wide:
            return struct.pack(order + "IIQQQQQQ", kind, 4, offset, base + offset, 0, size, size, 1)
        return struct.pack(order + "IIIIIIII", kind, offset, base + offset, 0, size, size, 4, 1)

    ident = b"\x7fELF" + bytes([2 if wide else 1, 1 if little else 2, 1]) + bytes(9)
    rest = struct.pack(
        order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH"),
        *(3, 62, 1, 0, header_size, 0, 0, header_size, program_size, 3, 0, 0, 0),
    )
    programs = program(1, 0, total) + program(3, body_at, len(interp)) + program(2, dynamic_at, len(dynamic))
    return ident + rest + programs + interp + strings + dynamic


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("little", [True, False])
def test_all_four_kinds_of_elf_are_read(tmp_path: Path, wide: bool, little: bool) -> None:
    """32 and 64 bits, little and big endian."""
    data = make_elf(
        wide=wide,
        little=little,
        needed=("liba.so.1", "libb.so"),
        interpreter="/lib/ld.so",
        runpath="/x:$ORIGIN/y",
    )
    (tmp_path / "elf").write_bytes(data)
    elf = elf_of(tmp_path / "elf")
    assert elf is not None
    assert (elf.interpreter, elf.needed, elf.runpath, elf.rpath) == (
        "/lib/ld.so",
        ("liba.so.1", "libb.so"),
        ("/x", "$ORIGIN/y"),
        (),
    )


def test_damaged_files_are_no_elf_files(tmp_path: Path) -> None:
    """Any cut and any flipped byte gives an answer or None, never another exception."""
    data = make_elf(needed=("liba.so",), interpreter="/lib/ld.so", rpath="/x")
    path = tmp_path / "elf"
    generator = random.Random(3)
    for turn in range(400):
        damaged = bytearray(data[: generator.randrange(len(data))] if turn % 2 else data)
        for _ in range(3):
            if damaged:
                damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        path.write_bytes(damaged)
        elf_of(path)
    path.write_bytes(b"#!/bin/sh\n" * 20)
    assert elf_of(path) is None
    path.write_bytes(b"")
    assert elf_of(path) is None


@pytest.mark.skipif(shutil.which("ldd") is None, reason="needs ldd")
@pytest.mark.parametrize("program", ["sh", "ls", "ldd", "python", "git", "gcc", "ssh", "perl", "skopeo"])
def test_libraries_are_those_that_ldd_finds(program: str) -> None:
    """The closure of NEEDED equals ld.so's own for programs of this machine."""
    path = sys.executable if program == "python" else shutil.which(program)
    elf = elf_of(os.path.realpath(path)) if path else None
    if elf is None or not elf.needed:
        pytest.skip(f"no dynamically linked {program} here")
    real = os.path.realpath(path or "")
    wanted = set()
    for line in subprocess.run(["ldd", real], capture_output=True, text=True, check=True).stdout.splitlines():
        _, arrow, rest = line.partition("=>")
        if arrow:
            wanted.add(os.path.realpath(rest.split("(")[0].strip()))
    libraries, found, todo = Libraries(), set(), [real]
    while todo:
        user = todo.pop()
        user_elf = elf_of(user)
        assert user_elf is not None
        for name in user_elf.needed:
            library = libraries.find(name, user_elf, os.path.dirname(user), ())
            assert library is not None, f"{user} needs {name}"
            library = os.path.realpath(library)
            if library not in found:
                found.add(library)
                todo.append(library)
    interpreter = os.path.realpath(elf.interpreter)
    assert found - {interpreter} == wanted - {interpreter}


def test_search_order(tmp_path: Path) -> None:
    """RUNPATH goes before the cache and turns RPATHs off; files of another machine are passed over."""
    for name, little in (("first", False), ("second", True), ("third", True)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "libx.so").write_bytes(make_elf(little=little))
    library = str(tmp_path)
    libraries = Libraries()
    user = Elf((2, 1, 62), runpath=("$ORIGIN/first", "${ORIGIN}/second"), rpath=(f"{library}/third",))
    assert libraries.find("libx.so", user, library, ()) == f"{library}/second/libx.so"
    user = Elf((2, 1, 62), rpath=("$ORIGIN/first",))
    assert libraries.find("libx.so", user, library, (f"{library}/third",)) == f"{library}/third/libx.so"
    user = Elf((2, 1, 62), runpath=("$ORIGIN/first",))
    assert libraries.find("libx.so", user, library, (f"{library}/third",)) is None
    assert libraries.find(f"{library}/third/libx.so", user, library, ()) == f"{library}/third/libx.so"
    assert expanded(("$ORIGIN/../lib", "/a/$LIB", "/b"), "/o") == ("/o/../lib", "/b")


def test_ld_so_conf_includes(tmp_path: Path) -> None:
    """include lines with patterns, comments, and no endless loop."""
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "ld.so.conf").write_text("include conf.d/*.conf\n/last\n# /comment\ninclude ld.so.conf\n")
    (tmp_path / "conf.d" / "a.conf").write_text("/one/  # here\n\n/two\n")
    (tmp_path / "conf.d" / "b.conf").write_text("/three\n/one\n")
    assert configured_directories(tmp_path / "ld.so.conf") == ("/one", "/two", "/three", "/last")
    assert configured_directories(tmp_path / "none") == ()


def test_a_damaged_cache_is_empty(tmp_path: Path) -> None:
    """No ld.so.cache, an old one, or half of one: libraries are then searched in the directories."""
    path = tmp_path / "cache"
    assert read_cache(path) == {}
    path.write_bytes(b"glibc-ld.so.cache1.1" + struct.pack("=I", 1000) + bytes(50))
    assert read_cache(path) == {}
