"""Layers with the same content: times don't count, everything else does."""

from __future__ import annotations

import os

import pytest

from layersmith.layer.compare import same_content
from layersmith.layer.compress import Compression
from layersmith.layer.entry import DIR, REG, SYM, Entry, Item
from layersmith.layer.pack import pack
from layersmith.store import Store

BODY = os.urandom(3 << 20)
ITEMS: list[Item] = [
    (Entry(b"d", DIR, 0o755, mtime=1), None),
    (Entry(b"d/f", REG, 0o644, mtime=2, size=len(BODY)), BODY),
    (Entry(b"d/g", REG, 0o644, mtime=2, size=3), b"abc"),
    (Entry(b"l", SYM, 0o777, mtime=3, link=b"d"), None),
]


def changed(number: int, **fields: object) -> list[Item]:
    items = list(ITEMS)
    entry, content = items[number]
    body = fields.pop("body", content)
    items[number] = entry._replace(**fields), body  # type: ignore[arg-type,assignment]
    return items


@pytest.mark.parametrize("compression", ["zstd", "gzip"])
def test_times_and_compression_do_not_count(store: Store, compression: str) -> None:
    """Other mtimes give another DiffID, even with PAX headers, and the same content."""
    one = pack(store, ITEMS).layer
    later = [(entry._replace(mtime=-(1 << 40)), content) for entry, content in ITEMS]
    other = pack(store, later, compression=Compression(compression)).layer
    assert one.diff_id != other.diff_id
    assert same_content(store, one, other)
    assert same_content(store, one, one)


@pytest.mark.parametrize(
    "items",
    [
        changed(0, mode=0o700),
        changed(1, body=BODY[:-1] + bytes([BODY[-1] ^ 1])),
        changed(1, body=bytes([BODY[0] ^ 1]) + BODY[1:]),
        changed(2, body=b"abd"),
        changed(2, body=b"abcd", size=4),
        changed(1, uid=1),
        changed(2, xattrs=((b"user.a", b"1"),)),
        changed(3, link=b"e"),
        ITEMS[:-1],
        [*ITEMS, (Entry(b"z", DIR, 0o755), None)],
    ],
)
def test_everything_else_counts(store: Store, items: list[Item]) -> None:
    """Mode, owner, xattr, link, any byte, one entry more or less: different, from both sides."""
    one, other = pack(store, ITEMS).layer, pack(store, items).layer
    assert not same_content(store, one, other)
    assert not same_content(store, other, one)


def test_copies_of_the_same_sources_are_not_read(store: Store) -> None:
    """What is known of their contents need not be found out; their entries count all the same."""
    one = pack(store, ITEMS).layer
    later = [(entry._replace(mtime=5), content) for entry, content in ITEMS]
    other, moved = pack(store, later).layer, pack(store, changed(2, mode=0o600)).layer
    for layer in (one, other, moved):
        store.blobs.path(layer.descriptor.digest).unlink()
    assert same_content(store, one, other, same_sources=True)
    assert not same_content(store, one, moved, same_sources=True)
