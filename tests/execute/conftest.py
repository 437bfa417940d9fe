"""The files below a COPY, without a store: `make_below` builds them from a listing, as `View` would show them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping

import pytest

from layersmith.errors import CopyError, NotFoundError
from layersmith.layer.entry import DIR, REG, SYM, Entry


class FakeBelow:
    """A `destination.Below` in memory."""

    def __init__(self, entries: Mapping[bytes, Entry], bodies: Mapping[bytes, bytes]) -> None:
        self.entries = {b"": Entry(b"", DIR, 0o755), **entries}
        self.bodies = bodies

    def lookup(self, path: bytes) -> Entry | None:
        return self.entries.get(path)

    def resolve(self, path: bytes, *, follow_last: bool = True) -> bytes:
        todo = path.split(b"/")[::-1]
        real: list[bytes] = []
        links = 0
        while todo:
            part = todo.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                real = real[:-1]
                continue
            entry = self.lookup(b"/".join((*real, part)))
            if entry is None or entry.kind != SYM or (not todo and not follow_last):
                real.append(part)
                continue
            links += 1
            if links > 40:
                raise CopyError("a loop")
            if entry.link.startswith(b"/"):
                real = []
            todo.extend(entry.link.split(b"/")[::-1])
        return b"/".join(real)

    def children(self, path: bytes) -> Iterator[Entry]:
        return iter(e for p, e in sorted(self.entries.items()) if p and p.rpartition(b"/")[0] == path)

    def walk(self, path: bytes = b"") -> Iterator[Entry]:
        prefix = path + b"/" if path else b""
        return iter(e for p, e in sorted(self.entries.items()) if p == path or p.startswith(prefix))

    def read(self, path: bytes, *, limit: int = 1 << 20) -> bytes:
        real = self.resolve(path)
        if real not in self.bodies:
            raise NotFoundError(f"no such file: {os.fsdecode(path)}")
        return self.bodies[real]


@pytest.fixture
def make_below() -> Callable[..., FakeBelow]:
    """``make_below("etc/", "lib -> usr/lib", **{"etc/passwd": b"…"})``: directories, symlinks, files.

    Directories are 0750, owned by 7:8, mtime 77: unlike anything that a copy makes itself.
    """

    def make(*listing: str, **bodies: bytes) -> FakeBelow:
        entries = {}
        for line in (*listing, *bodies):
            name, arrow, target = line.partition(" -> ")
            path = name.rstrip("/").encode()
            if arrow:
                entries[path] = Entry(path, SYM, 0o777, 7, 8, 77, link=target.encode())
            elif name.endswith("/"):
                entries[path] = Entry(path, DIR, 0o750, 7, 8, 77)
            else:
                entries[path] = Entry(path, REG, 0o640, 7, 8, 77, size=len(bodies.get(line, b"")))
        return FakeBelow(entries, {name.encode(): body for name, body in bodies.items()})

    return make
