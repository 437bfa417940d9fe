"""What an ELF file needs to run: its interpreter and libraries. In: an open file. Out: `Elf`, or None for another file.

After elf(5) and the gABI, chapter 5: PT_INTERP, and DT_NEEDED, DT_RPATH and DT_RUNPATH of PT_DYNAMIC. Both word sizes
and byte orders; offsets are bounded, for a file may be damaged.
"""

from __future__ import annotations

import os
import struct

from layersmith.dataclass import dataclass

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_STRSZ, _DT_RPATH, _DT_RUNPATH, _DT_FLAGS_1 = (
    0,
    1,
    5,
    10,
    15,
    29,
    0x6FFFFFFB,
)
_DF_1_NODEFLIB = 0x800
_MAX_HEADERS = 1024
_MAX_TABLE = 16 << 20


@dataclass(frozen=True, slots=True)
class Elf:
    """``machine`` is (class, byte order, e_machine): only files with equal ones can be loaded together."""

    machine: tuple[int, int, int]
    interpreter: str = ""
    needed: tuple[str, ...] = ()
    rpath: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()
    default_directories: bool = True


def read_elf(fd: int) -> Elf | None:
    """The ELF file open as ``fd``; None if it is no ELF file, or one so damaged that nothing could load it."""
    ident = os.pread(fd, 64, 0)
    if len(ident) < 52 or ident[:4] != b"\x7fELF" or ident[4] not in (1, 2) or ident[5] not in (1, 2):
        return None
    try:
        return _Reader(fd, ident).read()
    except (struct.error, ValueError, OverflowError):
        return None


class _Reader:
    def __init__(self, fd: int, ident: bytes) -> None:
        self._fd = fd
        self._wide = ident[4] == 2
        order = "<" if ident[5] == 1 else ">"
        self._program_header = struct.Struct(order + ("IIQQQQQQ" if self._wide else "IIIIIIII"))
        self._dynamic = struct.Struct(order + ("qQ" if self._wide else "iI"))
        header = struct.Struct(order + ("HHIQQQIHHH" if self._wide else "HHIIIIIHHH"))
        _, machine, _, _, self._offset, _, _, _, self._entry_size, self._count = header.unpack_from(ident, 16)
        self._machine = (ident[4], ident[5], machine)

    def read(self) -> Elf:
        interpreter, dynamic, loads = "", b"", []
        for kind, offset, address, size in self._segments():
            if kind == _PT_INTERP:
                interpreter = os.fsdecode(self._bytes(offset, size).split(b"\0")[0])
            elif kind == _PT_DYNAMIC:
                dynamic = self._bytes(offset, size)
            elif kind == _PT_LOAD:
                loads.append((address, offset, size))
        tags = self._tags(dynamic)
        values = dict(tags)
        strings = b""
        if _DT_STRTAB in values:
            strings = self._bytes(_file_offset(values[_DT_STRTAB], loads), values.get(_DT_STRSZ, 0))

        def texts(wanted: int) -> list[str]:
            return [os.fsdecode(strings[v : strings.index(b"\0", v)]) for tag, v in tags if tag == wanted]

        def paths(wanted: int) -> tuple[str, ...]:
            return tuple(path for text in texts(wanted) for path in text.split(":") if path)

        return Elf(
            machine=self._machine,
            interpreter=interpreter,
            needed=tuple(texts(_DT_NEEDED)),
            rpath=paths(_DT_RPATH),
            runpath=paths(_DT_RUNPATH),
            default_directories=not values.get(_DT_FLAGS_1, 0) & _DF_1_NODEFLIB,
        )

    def _segments(self) -> list[tuple[int, int, int, int]]:
        """(type, file offset, address, size in the file) of each program header."""
        if self._count > _MAX_HEADERS or self._entry_size < self._program_header.size:
            raise ValueError("program headers")
        table = self._bytes(self._offset, self._count * self._entry_size)
        found = []
        for number in range(self._count):
            fields = self._program_header.unpack_from(table, number * self._entry_size)
            if self._wide:
                kind, _, offset, address, _, size, _, _ = fields
            else:
                kind, offset, address, _, size, _, _, _ = fields
            found.append((kind, offset, address, size))
        return found

    def _tags(self, dynamic: bytes) -> list[tuple[int, int]]:
        found = []
        for position in range(0, len(dynamic) - self._dynamic.size + 1, self._dynamic.size):
            tag, value = self._dynamic.unpack_from(dynamic, position)
            if tag == _DT_NULL:
                break
            found.append((tag, value))
        return found

    def _bytes(self, offset: int, size: int) -> bytes:
        if size > _MAX_TABLE:
            raise ValueError("table too long")
        return os.pread(self._fd, size, offset)


def _file_offset(address: int, loads: list[tuple[int, int, int]]) -> int:
    """Where in the file that is which will be loaded at ``address``."""
    for start, offset, size in loads:
        if start <= address < start + size:
            return address - start + offset
    raise ValueError("address in no segment")
