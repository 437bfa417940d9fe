"""Blobs: only ever whole, only ever verified."""

import os
from pathlib import Path

import pytest

from layersmith.errors import DigestMismatchError, NotFoundError, StoreError, TransportError
from layersmith.oci.descriptor import Descriptor
from layersmith.oci.digest import Digest, digest_of
from layersmith.store import Store

DATA = b"some data " * 300_000
TYPE = "application/octet-stream"


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def test_put_is_idempotent_and_read_gives_it_back(store: Store) -> None:
    """The content is stored at its digest, once, and comes back the same."""
    digest = store.blobs.put(DATA)
    inode = store.blobs.path(digest).stat().st_ino
    assert store.blobs.put(DATA) == digest == digest_of(DATA)
    assert store.blobs.path(digest).stat().st_ino == inode
    assert store.blobs.read(Descriptor.of(TYPE, DATA), limit=len(DATA)) == DATA
    assert list(store.blobs.list()) == [digest]
    assert store.blobs.size(digest) == len(DATA)


def test_modes_do_not_depend_on_the_umask(root: Path) -> None:
    """Another umask makes the same store."""
    before = os.umask(0o077)
    try:
        with Store.open(root) as store:
            digest = store.blobs.put(b"x")
            snapshot = store.snapshots.create()
            assert store.blobs.path(digest).stat().st_mode & 0o777 == 0o644
            assert snapshot.path.stat().st_mode & 0o7777 == 0o755
            assert (root / "blobs" / "sha256").stat().st_mode & 0o777 == 0o755
    finally:
        os.umask(before)


def test_nothing_is_there_before_commit(store: Store) -> None:
    """A writer that is left, by an error or without commit, leaves neither blob nor temporary file."""
    digest = digest_of(b"abc")
    with store.blobs.writer() as writer:
        writer.write(b"abc")
        assert not store.blobs.has(digest)
    assert not store.blobs.has(digest)
    with pytest.raises(ZeroDivisionError):
        with store.blobs.writer() as writer:
            raise ZeroDivisionError
    assert [path.name for path in store.session.directory.iterdir()] == ["pins"]


def test_commit_checks_the_size(store: Store) -> None:
    """Another number of bytes than announced is an error, and no blob."""
    digest = digest_of(b"abc")
    with store.blobs.writer() as writer:
        writer.write(b"ab")
        with pytest.raises(StoreError, match="2 bytes"):
            writer.commit(digest, 3)
    assert not store.blobs.has(digest)


def test_two_writers_of_one_blob_both_succeed(store: Store) -> None:
    """The second commit finds the blob there and is as good as the first."""
    digest = digest_of(b"abc")
    with store.blobs.writer() as one, store.blobs.writer() as two:
        one.write(b"abc")
        two.write(b"abc")
        one.commit(digest, 3)
        two.commit(digest, 3)
    assert store.blobs.read(Descriptor.of(TYPE, b"abc")) == b"abc"


@pytest.mark.parametrize("at", [0, len(DATA) // 2, len(DATA) - 1])
def test_a_flipped_bit_is_a_mismatch_that_names_the_blob(store: Store, at: int) -> None:
    """However it is read, the damage is found before the end is reported."""
    descriptor = Descriptor.of(TYPE, DATA)
    digest = store.blobs.put(DATA)
    flip(store.blobs.path(digest), at)
    with pytest.raises(DigestMismatchError, match=digest):
        store.blobs.read(descriptor, limit=len(DATA))
    with store.blobs.open(descriptor) as reader, pytest.raises(DigestMismatchError, match=digest):
        while reader.read(1 << 16):
            pass
    buffer = bytearray(1 << 16)
    with store.blobs.open(descriptor) as reader, pytest.raises(DigestMismatchError, match=digest):
        while reader.readinto(buffer):
            pass
    assert not store.blobs.verify(digest)


@pytest.mark.parametrize("change", [-1, 1, -len(DATA)])
def test_a_truncated_or_longer_blob_is_a_mismatch(store: Store, change: int) -> None:
    """A wrong length is found, too."""
    digest = store.blobs.put(DATA)
    path = store.blobs.path(digest)
    if change < 0:
        os.truncate(path, len(DATA) + change)
    else:
        with path.open("ab") as file:
            file.write(b"!")
    with pytest.raises(DigestMismatchError, match=digest):
        store.blobs.read(Descriptor.of(TYPE, DATA), limit=len(DATA))


def test_a_truncated_blob_is_replaced_by_the_next_who_writes_it(store: Store) -> None:
    """What is stored again heals."""
    digest = store.blobs.put(b"abc")
    os.truncate(store.blobs.path(digest), 1)
    with store.blobs.writer() as writer:
        writer.write(b"abc")
        writer.commit(digest, 3)
    assert store.blobs.verify(digest)


def test_a_missing_blob_is_named(store: Store) -> None:
    """Reading, opening and measuring what is not there says so."""
    descriptor = Descriptor.of(TYPE, b"nothing")
    for attempt in (store.blobs.open, store.blobs.read):
        with pytest.raises(NotFoundError, match=descriptor.digest):
            attempt(descriptor)
    with pytest.raises(NotFoundError, match=descriptor.digest):
        store.blobs.size(descriptor.digest)


def test_read_has_a_limit(store: Store) -> None:
    """A descriptor that promises too much is refused before anything is read."""
    with pytest.raises(StoreError):
        store.blobs.read(Descriptor(TYPE, digest_of(b""), 1 << 40))


@pytest.mark.parametrize(
    ("digest", "size", "chunks"),
    [
        (digest_of(b"abc"), 3, [b"a", b"bd"]),
        (digest_of(b"abc"), 4, [b"abc"]),
        (digest_of(b"abc"), 2, [b"abc"]),
        (digest_of(b"abc"), 3, [b"abc", b"d"]),
    ],
)
def test_ingest_refuses_other_bytes(store: Store, digest: Digest, size: int, chunks: list[bytes]) -> None:
    """What is not as described is not stored."""
    with pytest.raises(TransportError, match=digest):
        store.blobs.ingest(Descriptor(TYPE, digest, size), chunks)
    assert not store.blobs.has(digest)


def test_ingest_stops_reading_at_the_announced_size(store: Store) -> None:
    """An endless source does not fill the disk."""

    def endless():  # type: ignore[no-untyped-def]
        while True:
            yield bytes(1000)

    with pytest.raises(TransportError):
        store.blobs.ingest(Descriptor(TYPE, digest_of(b""), 5000), endless())


def test_a_copy_is_another_file(store: Store, tmp_path: Path) -> None:
    """Editing an exported blob in place does not reach the store."""
    digest = store.blobs.put(DATA)
    store.blobs.copy_to(digest, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == DATA
    flip(tmp_path / "copy", 5)
    assert store.blobs.verify(digest)
