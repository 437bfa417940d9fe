"""A layer as one read-only EROFS image, mounted from its file, against a directory of files.

    python tests/benchmarks/bench_erofs.py DIRECTORY [--rounds 5]

As root, on Linux 6.12 or newer. A trial, not part of layersmith: the image is the layer's plain tar, as the blob is
decompressed, with inodes and directories behind it that point into it (fs/erofs/erofs_fs.h; no xattrs). Uses the
trees of bench_layer.py below DIRECTORY. Prints seconds, medians: to make each form from the blob, to mount an overlay
on it, to list all of it and to read all of it with a cold dentry cache, and to delete it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import stat
import statistics
import struct
import time
from collections.abc import Callable
from pathlib import Path

from bench_layer import generate

from layersmith.layer.compress import decompress
from layersmith.layer.entry import BLK, CHR, DIR, FIFO, LNK, REG, SYM, Entry
from layersmith.layer.pack import pack
from layersmith.layer.pipeline import Feed
from layersmith.layer.place import Placement
from layersmith.layer.scan import scan
from layersmith.layer.tar.reader import TarReader
from layersmith.layer.unpack import unpack
from layersmith.linux import libc
from layersmith.linux.overlay import Overlay, open_overlay
from layersmith.oci.descriptor import Layer
from layersmith.store import Store

MAGIC = 0xE0F5E1E2
BLOCK_BITS = 9
BLOCK = 1 << BLOCK_BITS
START = 4096
"""Bytes before the tar: the superblock lies at 1024."""
SUPERBLOCK = struct.Struct("<IIIBBHQQIIII16s16sIHHHBBIQB23x")
INODE = struct.Struct("<HHHHQIIIIQII16x")
DIRENT = struct.Struct("<QHBx")
PLAIN = 1
"""An extended inode whose data lies in one run of whole blocks."""
KINDS = {
    REG: (stat.S_IFREG, 1),
    DIR: (stat.S_IFDIR, 2),
    CHR: (stat.S_IFCHR, 3),
    BLK: (stat.S_IFBLK, 4),
    FIFO: (stat.S_IFIFO, 5),
    SYM: (stat.S_IFLNK, 7),
}


class Image:
    """An EROFS image being written behind the tar that is in the file ``fd`` already."""

    def __init__(self) -> None:
        self.entries: list[tuple[Entry, int]] = [(Entry(b"", DIR, 0o755), 0)]
        self.numbers: dict[bytes, int] = {b"": 0}
        self.children: dict[bytes, list[tuple[bytes, int]]] = {b"": []}
        self.links: dict[int, int] = {}

    def add(self, entry: Entry, offset: int) -> None:
        path = entry.path
        if entry.kind == LNK:
            number = self.numbers[entry.link]
            self.links[number] = self.links.get(number, 1) + 1
        elif path in self.numbers:
            self.entries[self.numbers[path]] = (entry, offset)
            return
        else:
            number = len(self.entries)
            self.entries.append((entry, offset))
        self.numbers[path] = number
        if entry.kind == DIR:
            self.children[path] = []
        parent, _, name = path.rpartition(b"/")
        self.children[parent].append((name, number))

    def finish(self, fd: int, end: int) -> None:
        meta = -(-end // BLOCK) * BLOCK
        at = start = meta + -(-len(self.entries) * INODE.size // BLOCK) * BLOCK
        inodes, data = [], []
        for number, (entry, offset) in enumerate(self.entries):
            kind, _ = KINDS[entry.kind]
            size, where, links = entry.size, (START + offset) >> BLOCK_BITS, self.links.get(number, 1)
            if entry.kind in (DIR, SYM):
                content = entry.link if entry.kind == SYM else self.directory(entry.path, number)
                size, where = len(content), at >> BLOCK_BITS
                data.append(content.ljust(-(-size // BLOCK) * BLOCK, b"\0"))
                at += len(data[-1])
                links = 2 if entry.kind == DIR else links
            elif entry.kind in (CHR, BLK):
                where = (entry.minor & 0xFF) | entry.major << 8 | (entry.minor & ~0xFF) << 12
            mode = kind | entry.mode
            inodes.append(
                INODE.pack(
                    PLAIN, 0, mode, 0, size, where, number, entry.uid, entry.gid, entry.mtime, 0, links
                )
            )
        os.pwrite(fd, b"".join(inodes), meta)
        whole = b"".join(data)
        os.pwrite(fd, whole, start)
        blocks = (start + len(whole)) >> BLOCK_BITS
        count = len(self.entries)
        head = (MAGIC, 0, 0, BLOCK_BITS, 0, 0, count, 0, 0, blocks, meta >> BLOCK_BITS, 0)
        os.pwrite(fd, SUPERBLOCK.pack(*head, bytes(16), bytes(16), 0, 0, 0, 0, 0, 0, 0, 0, 0), 1024)
        os.ftruncate(fd, -(-(blocks << BLOCK_BITS) // 4096) * 4096)

    def directory(self, path: bytes, number: int) -> bytes:
        """Blocks of entries, sorted, each with its names behind them."""
        parent = self.numbers[path.rpartition(b"/")[0]]
        found = [(b".", number), (b"..", parent), *self.children[path]]
        blocks, here, room = [], [], BLOCK
        for name, child in sorted(found):
            need = DIRENT.size + len(name)
            if need > room:
                blocks.append(self.block(here))
                here, room = [], BLOCK
            here.append((name, child))
            room -= need
        last = self.block(here).rstrip(b"\0")
        return b"".join(block.ljust(BLOCK, b"\0") for block in blocks) + last

    def block(self, names: list[tuple[bytes, int]]) -> bytes:
        at = len(names) * DIRENT.size
        entries = []
        for name, child in names:
            entries.append(DIRENT.pack(child * 2, at, KINDS[self.entries[child][0].kind][1]))
            at += len(name)
        return b"".join(entries) + b"".join(name for name, _ in names)


def make_image(store: Store, layer: Layer, path: Path) -> None:
    """From the blob, verified as an unpacking verifies it, synced to disk no more than a snapshot is."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.lseek(fd, START, os.SEEK_SET)
    diff_id = hashlib.sha256()

    def station(piece: memoryview) -> None:
        diff_id.update(piece)
        os.write(fd, piece)

    image, placement = Image(), Placement()
    with store.blobs.open(layer.descriptor) as blob:
        feed = Feed(decompress(blob).fill, station)
        tar = TarReader(feed)
        for entry in tar:
            placed = placement.place(entry)
            if placed is not None:
                for directory in placed[1]:
                    image.add(directory, 0)
                image.add(placed[0], tar.offset)
        feed.close()
        while blob.read(1 << 16):
            pass
    assert "sha256:" + diff_id.hexdigest() == layer.diff_id
    image.finish(fd, os.lseek(fd, 0, os.SEEK_END))
    os.close(fd)


def mount_image(path: Path, point: Path) -> None:
    context = libc.fsopen("erofs")
    libc.fsconfig_string(context, "source", os.fspath(path))
    libc.fsconfig_flag(context, "ro")
    mounted = libc.fsmount(context)
    os.close(context)
    target = os.open(point, os.O_PATH)
    libc.move_mount(mounted, target)
    os.close(target)
    os.close(mounted)


def drop_caches() -> None:
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("2")


def listed(top: Path) -> int:
    return sum(len(files) + len(directories) for _, directories, files in os.walk(top))


def read(top: Path) -> str:
    """A digest of all names and contents, in the order of the names."""
    digest = hashlib.sha256()
    for directory, directories, files in os.walk(top):
        directories.sort()
        for name in sorted(files):
            digest.update(name.encode())
            with open(os.path.join(directory, name), "rb", buffering=0) as file:
                digest.update(file.read())
    return digest.hexdigest()


def timed(what: Callable[[], object], times: list[float]) -> object:
    started = time.perf_counter()
    result = what()
    times.append(time.perf_counter() - started)
    return result


STEPS = ("make", "mount", "list", "read", "delete")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    libc.unshare(libc.CLONE_NEWNS)
    libc.mount(None, "/", None, libc.MS_REC | libc.MS_PRIVATE)
    top: Path = args.directory
    top.mkdir(exist_ok=True)
    for name, files, mean, most in (("small", 40_000, 8.7, 2_000_000), ("large", 28, 0.0, 40_000_000)):
        if not (top / name).exists():
            generate(top / name, files=files, mean=mean, most=most)
        times = {form: {step: [] for step in STEPS} for form in ("directory", "erofs")}
        for number in range(args.rounds):
            compare(top, name, number, times)
        for form, found in times.items():
            print(f"{name:6} {form:10}", *(f"{s} {statistics.median(t):6.3f}" for s, t in found.items()))


def compare(top: Path, name: str, number: int, times: dict[str, dict[str, list[float]]]) -> None:
    with Store.open(top / f"erofs-{name}-{number}") as store:
        layer = pack(store, scan(top / name)).layer
        os.sync()
        digests = set()
        empty = top / "empty"  # overlayfs takes no single lower directory
        empty.mkdir(exist_ok=True)
        for form, found in times.items():
            point, image = top / "mounted", top / "layer.erofs"
            point.mkdir(exist_ok=True)
            if form == "erofs":
                timed(lambda image=image: make_image(store, layer, image), found["make"])
            else:
                directory = timed(lambda: unpack(store, layer), found["make"])
            drop_caches()
            started = time.perf_counter()
            if form == "erofs":
                mount_image(image, point)
            lower = point if form == "erofs" else directory
            merged = open_overlay(Overlay((os.fspath(lower), os.fspath(empty))))
            found["mount"].append(time.perf_counter() - started)
            view = Path(f"/proc/self/fd/{merged}")
            count = timed(lambda view=view: listed(view), found["list"])
            digests.add((count, timed(lambda view=view: read(view), found["read"])))
            os.close(merged)
            started = time.perf_counter()
            if form == "erofs":
                libc.umount(os.fspath(point))
                image.unlink()
            else:
                shutil.rmtree(directory)
            found["delete"].append(time.perf_counter() - started)
        assert len(digests) == 1, digests
    shutil.rmtree(top / f"erofs-{name}-{number}")


if __name__ == "__main__":
    main()
