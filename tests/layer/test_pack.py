"""Items to blobs: the same bytes whatever the machine, nothing left of what failed."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from layersmith.errors import StepError, StoreError
from layersmith.layer.compress import Compression, decompress
from layersmith.layer.entry import DIR, REG, Entry, Item
from layersmith.layer.pack import pack
from layersmith.layer.pipeline import Feed, Pipeline
from layersmith.layer.tar import read_tar
from layersmith.store import Store

COMPRESSIONS = [Compression("zstd"), Compression("zstd", 1), Compression("gzip"), Compression("gzip", 6), Compression("none")]  # fmt: skip


def some_items(size: int = 5 << 20) -> list[Item]:
    body = bytes(range(256)) * (size // 512) + hashlib.shake_128(b"seed").digest(size // 2)
    return [
        (Entry(b"d", DIR, 0o755, mtime=1_000), None),
        (Entry(b"d/f", REG, 0o644, mtime=5_000_000_000, size=len(body)), body),
        (Entry(b"g", REG, 0o644, mtime=-5, size=1), b"g"),
    ]


@pytest.mark.parametrize("compression", COMPRESSIONS, ids=lambda c: c.describe())
def test_blob_and_digests(compression: Compression, store: Store) -> None:
    """The blob is the compressed tar, its digest and the DiffID are of these very bytes, and it reads back."""
    packed = pack(store, some_items(), compression=compression)
    layer = packed.layer
    blob = store.blobs.read(layer.descriptor, limit=1 << 30)
    plain = decompress(io.BytesIO(blob)).read()
    assert layer.diff_id == "sha256:" + hashlib.sha256(plain).hexdigest()
    assert layer.descriptor.media_type == compression.media_type
    assert (packed.size, packed.entries) == (len(plain), 3)
    assert [(e, body and body.read()) for e, body in read_tar(io.BytesIO(plain))] == some_items()
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
        assert archive.getnames() == ["d", "d/f", "g"]
    if compression.algorithm == "gzip":
        assert gzip.decompress(blob) == plain
        assert blob[:4] == b"\x1f\x8b\x08\0" and blob[4:8] == bytes(4), "no name, no time"
    if compression.algorithm == "zstd":
        assert zstandard.ZstdDecompressor().decompressobj().decompress(blob) == plain


@pytest.mark.parametrize("compression", COMPRESSIONS, ids=lambda c: c.describe())
def test_the_same_bytes_for_any_number_of_processors(
    compression: Compression, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One, two or seven threads give one blob."""
    digests = set()
    for processors in (1, 2, 7):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, n=processors: set(range(n)))
        digests.add(pack(store, some_items(40 << 20), compression=compression).layer.descriptor.digest)
    assert len(digests) == 1


def test_epoch_lowers_newer_times_only(store: Store) -> None:
    """SOURCE_DATE_EPOCH clamps; what is older stays."""
    layer = pack(store, some_items(1024), compression=Compression("none"), epoch=2_000).layer
    data = store.blobs.read(layer.descriptor)
    assert [entry.mtime for entry, _ in read_tar(io.BytesIO(data))] == [1_000, 2_000, -5]


def test_xattrs_of_the_machine_stay_here(store: Store) -> None:
    """Items from a foreign archive may have any; only those that belong into layers are written."""
    pairs = (
        (b"security.selinux", b"s"),
        (b"trusted.x", b"t"),
        (b"user.a", b"u"),
        (b"user.overlay.opaque", b"y"),
    )
    layer = pack(store, [(Entry(b"f", REG, xattrs=pairs), None)], compression=Compression("none")).layer
    ((entry, _),) = read_tar(io.BytesIO(store.blobs.read(layer.descriptor)))
    assert entry.xattrs == ((b"user.a", b"u"),)


@pytest.mark.parametrize("size", [10, 9 << 20])
def test_an_error_leaves_nothing(size: int, store: Store) -> None:
    """The items' error is raised as it is, and neither blob nor index nor thread is left."""

    def failing() -> Iterator[Item]:
        yield from some_items(size)
        raise StepError("the disk is on fire")

    before = threading.active_count()
    with pytest.raises(StepError, match="on fire"):
        pack(store, failing())
    assert list(store.blobs.list()) == []
    assert list(store.layers.iterdir()) == []
    assert threading.active_count() == before


def test_a_failing_write_stops_the_reading(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk is full, the walk ends at the next piece and not after the last."""
    from layersmith.store import BlobWriter

    def full(self: BlobWriter, data: object) -> int:
        raise StoreError("no space left")

    monkeypatch.setattr(BlobWriter, "write", full)
    given = 0

    def endless() -> Iterator[Item]:
        nonlocal given
        body = os.urandom(1 << 20)
        for given in range(10_000):
            yield Entry(b"f%d" % given, REG, size=1 << 20), body

    with pytest.raises(StoreError, match="no space"):
        pack(store, endless(), compression=Compression("none"))
    assert given < 100


def test_packing_the_same_twice_is_one_blob(store: Store) -> None:
    """Idempotent: the second time finds the blob there."""
    assert pack(store, some_items()) == pack(store, some_items())
    assert len(list(store.blobs.list())) == 1


def test_several_at_once(store: Store) -> None:
    """Packers in several threads don't mix their pieces."""
    results: dict[int, str] = {}

    def work(number: int) -> None:
        items = [(Entry(b"f", REG, size=3 << 20), bytes([number]) * (3 << 20))]
        results[number] = pack(store, items).layer.diff_id

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(6):
        items: list[Item] = [(Entry(b"f", REG, size=3 << 20), bytes([number]) * (3 << 20))]
        assert pack(store, items).layer.diff_id == results[number]


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["zstd", "gzip"])
def test_memory_does_not_grow_with_a_file(algorithm: str, tmp_path: Path) -> None:
    """Packing and unpacking a file of 1 GiB takes less than 150 MB."""
    (tmp_path / "tree").mkdir()
    with (tmp_path / "tree" / "large").open("wb") as file:
        file.truncate(1 << 30)
    program = """
import sys
from pathlib import Path
from layersmith.layer.compress import Compression
from layersmith.layer.pack import pack
from layersmith.layer.scan import scan
from layersmith.layer.unpack import unpack
from layersmith.store import Store
with Store.open(Path(sys.argv[1]) / "store") as store:
    top = unpack(store, pack(store, scan(Path(sys.argv[1]) / "tree"), compression=Compression(sys.argv[2])).layer, ignore_chown_errors=True)
    assert (top / "large").stat().st_size == 1 << 30
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path, algorithm],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    # The high-water mark in KiB. (ru_maxrss would be the parent's, which a child inherits.)
    assert int(done.stdout) < 150_000


def test_pipeline_keeps_order_and_bounds_memory() -> None:
    """Pieces pass every station in the order that they came, with a fixed number of buffers."""
    seen: tuple[list[int], list[int]] = ([], [])
    buffers = set()
    with Pipeline(lambda p: seen[0].append(p[0]), lambda p: seen[1].append(p[0])) as pipeline:
        buffer = pipeline.buffer()
        for number in range(200):
            buffer[0] = number
            buffers.add(id(buffer.obj))
            buffer = pipeline.emit(buffer, 1)
        pipeline.finish()
    assert seen[0] == seen[1] == list(range(200))
    assert len(buffers) <= 5


def test_feed_keeps_order_and_passes_errors_on() -> None:
    """Pieces come as they were filled; an error of either thread ends the iteration; nothing runs on after close."""
    numbers = iter(range(100))

    def fill(buffer: memoryview) -> int:
        number = next(numbers, None)
        if number is None:
            return 0
        buffer[0] = number
        return len(buffer)

    passed: list[int] = []
    feed = Feed(fill, lambda piece: passed.append(piece[0] if piece else -1))
    assert [piece[0] for piece in feed] == list(range(100))
    assert passed == list(range(100))
    feed.close()

    for bad in ("fill", "station"):
        count = iter(range(100))

        def failing(buffer: memoryview, which: str = bad, count: Iterator[int] = count) -> int:
            if next(count) == 9 and which == "fill":
                raise StoreError("bad fill")
            return len(buffer)

        pieces: list[int] = []

        def station(piece: memoryview, which: str = bad, pieces: list[int] = pieces) -> None:
            pieces.append(1)
            if len(pieces) == 9 and which == "station":
                raise StoreError("bad station")

        feed = Feed(failing, station)
        with pytest.raises(StoreError, match=bad):
            for _ in feed:
                pass
        feed.close()
    assert threading.active_count() == 1
