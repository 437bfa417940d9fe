"""Views of stacked layers against what applying them in order gives."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from layersmith.errors import CopyError, NotFoundError, StoreError
from layersmith.layer.entry import CHR, DIR, LNK, REG, SYM, Entry, Item, opaque, whiteout
from layersmith.layer.index import index_path, open_index
from layersmith.layer.pack import pack
from layersmith.layer.view import View
from layersmith.oci.descriptor import Layer
from layersmith.store import Store

Make = Callable[..., Layer]


def file(path: bytes, body: bytes = b"x", **fields: int) -> Item:
    return Entry(path, REG, 0o644, size=len(body), **fields), body


def directory(path: bytes, mode: int = 0o755) -> Item:
    return Entry(path, DIR, mode), None


def link(path: bytes, target: bytes) -> Item:
    return Entry(path, SYM, 0o777, link=target), None


@pytest.fixture
def layers(store: Store) -> list[Layer]:
    """Three layers that replace, remove and hide each other's files."""
    first = [
        directory(b"a"),
        file(b"a/one", b"1"),
        file(b"a/two", b"2"),
        directory(b"a/sub"),
        file(b"a/sub/deep", b"deep"),
        directory(b"etc"),
        file(b"etc/passwd", b"root:x:0:0\n"),
        (Entry(b"etc/shadow", LNK, 0o644, link=b"etc/passwd"), None),
        link(b"l", b"/a"),
    ]
    second: list[Item] = [directory(b"a", 0o700), (whiteout(b"a/one"), None), file(b"a/three", b"3")]
    third: list[Item] = [
        directory(b"a"),
        directory(b"a/sub"),
        (opaque(b"a/sub"), None),
        file(b"a/sub/new", b"n"),
    ]
    return [pack(store, items).layer for items in (first, second, third)]


def test_lookup(store: Store, layers: list[Layer]) -> None:
    """Whiteouts and opaque directories hide what is below them, topmost attributes win."""
    with View(store, layers) as view:
        assert [e.path for e in view.walk(b"a")] == [b"a", b"a/sub", b"a/sub/new", b"a/three", b"a/two"]
        assert view.lookup(b"a/one") is None
        assert view.lookup(b"a/sub/deep") is None
        assert view.lookup(b"a/two/below") is None
        assert view.lookup(b"") == Entry(b"", DIR, 0o755)
        shadow = view.lookup(b"etc/shadow")
        assert shadow is not None and (shadow.kind, shadow.size, shadow.link) == (REG, 11, b"etc/passwd")
    with View(store, layers[:2]) as view:
        a = view.lookup(b"a")
        assert a is not None and a.mode == 0o700
        assert view.lookup(b"a/sub/deep") is not None
    with View(store, []) as view:
        assert list(view.walk()) == [Entry(b"", DIR, 0o755)]


def test_on_top_is_a_view_of_all(store: Store, layers: list[Layer]) -> None:
    """A view that grew layer by layer gives the same as one made at once."""
    view = View(store, [])
    for layer in layers:
        view = view.on_top(layer)
    with View(store, layers) as whole:
        assert list(view.walk()) == list(whole.walk())
    assert view.keys == tuple(layer.diff_id for layer in layers)


def test_resolve(store: Store, layers: list[Layer]) -> None:
    """Links are followed inside the root, absolute and relative; what does not exist stays as written."""
    loops = pack(store, [link(b"x", b"y"), link(b"y", b"x"), link(b"up", b"../../../a")]).layer
    with View(store, [*layers, loops]) as view:
        assert view.resolve(b"/l/sub/../two") == b"a/two"
        assert view.resolve(b"l") == b"a"
        assert view.resolve(b"l", follow_last=False) == b"l"
        assert view.resolve(b"l/", follow_last=False) == b"l"
        assert view.resolve(b"up/missing/../f") == b"a/f"
        assert view.resolve(b"../..//./l/none/more") == b"a/none/more"
        with pytest.raises(CopyError, match="symbolic links"):
            view.resolve(b"x/f")


def test_read(store: Store, layers: list[Layer]) -> None:
    """Contents come from the blob, through links and hard links, bounded."""
    with View(store, layers) as view:
        assert view.read(b"/etc/shadow") == b"root:x:0:0\n"
        assert view.read(b"l/two") == b"2"
        for missing in (b"a/one", b"a", b"nothing"):
            with pytest.raises(NotFoundError):
                view.read(missing)
        with pytest.raises(StoreError, match="at most"):
            view.read(b"etc/passwd", limit=5)


def test_indexes_come_back(store: Store, layers: list[Layer]) -> None:
    """A lost, damaged or foreign index is made again from the blob, equal to the one that `pack` wrote."""
    with View(store, layers) as view:
        before = list(view.walk())
    paths = [index_path(store, layer.diff_id) for layer in layers]
    first = [path.read_bytes() for path in paths]
    paths[0].unlink()
    paths[1].write_bytes(first[1][:70])
    other_boot = b"f" * 36
    paths[2].write_bytes(first[2][:8] + other_boot + first[2][44:-3] + b"\xff\xff\xff")
    with View(store, layers) as view:
        assert list(view.walk()) == before
    assert [path.read_bytes() for path in paths] == first
    paths[2].write_bytes(first[2][:8] + other_boot + first[2][44:])
    assert open_index(store, layers[2].diff_id) is not None, "whole, though of an earlier boot"


def test_xattrs_devices_and_times(store: Store) -> None:
    """Every field of an entry comes back from the index."""
    entries = [
        Entry(b"dev", CHR, 0o620, 1, 2, -9, 0, b"", 136, 70000),
        Entry(b"f", REG, 0o4755, 70000, 0xFFFFFFFE, 1 << 40, 0, xattrs=((b"security.capability", b"\0\1"), (b"user.e", b"v"))),
        Entry(b"l", SYM, 0o777, 3, 4, 5, 0, b"\xff/../x"),
    ]  # fmt: skip
    layer = pack(store, [(entry, None) for entry in entries]).layer
    with View(store, [layer]) as view:
        assert list(view.children(b"")) == entries


def test_many_threads(store: Store, layers: list[Layer]) -> None:
    """One view answers several threads at once."""
    wrong: list[object] = []
    with View(store, layers) as view:
        expected = list(view.walk())

        def look() -> None:
            for _ in range(30):
                if list(view.walk()) != expected:
                    wrong.append(1)

        threads = [threading.Thread(target=look) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


# Against a model: layers of random entries, applied in order to a dict

part = st.sampled_from([b"a", b"b", b"a.b", b"c"])


@st.composite
def tree_items(draw: st.DrawFn) -> list[Item]:
    """A layer: random files and directories, their parents, whiteouts and opaque directories."""
    items: dict[bytes, Item] = {}
    for _ in range(draw(st.integers(1, 5))):
        parts = draw(st.lists(part, min_size=1, max_size=3))
        for depth in range(1, len(parts)):
            parent = b"/".join(parts[:depth])
            items[parent] = directory(parent, draw(st.sampled_from([0o755, 0o700])))
        path = b"/".join(parts)
        kind = draw(st.sampled_from(["file", "dir", "gone", "opaque"]))
        if kind == "file" and path not in items:
            items[path] = file(path, draw(st.binary(max_size=3)))
        elif kind == "dir" or (kind == "opaque" and path not in items):
            items.setdefault(path, directory(path))
            if kind == "opaque":
                items[path + b"/.wh..wh..opq"] = (opaque(path), None)
        elif kind == "gone" and path not in items:
            items[path] = (whiteout(path), None)
    # A path can't be both a file and a directory of one layer.
    files = {p for p, (e, _) in items.items() if e.kind == REG and e.path == p}
    gone = {p for p, (e, _) in items.items() if e.kind == REG and e.path != p and not p.endswith(b".opq")}
    return [
        (entry, content)
        for path, (entry, content) in sorted(items.items())
        if not any(path.startswith(f + b"/") for f in files | gone)
    ]


def apply(state: dict[bytes, Entry], items: list[Item]) -> dict[bytes, Entry]:
    """The layer on ``state``, by the rules of image-spec's layer.md."""

    def drop(path: bytes) -> None:
        for known in [p for p in state if p == path or p.startswith(path + b"/")]:
            del state[known]

    for entry, _ in items:
        name = entry.name
        if name == b".wh..wh..opq":
            for known in [p for p in state if p.startswith(entry.parent + b"/")]:
                del state[known]
        elif name.startswith(b".wh."):
            drop((entry.parent + b"/" if entry.parent else b"") + name[4:])
    for entry, _ in items:
        if entry.name.startswith(b".wh."):
            continue
        old = state.get(entry.path)
        if old is not None and not (old.kind == entry.kind == DIR):
            drop(entry.path)
        state[entry.path] = entry
    return state


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(tree_items(), min_size=1, max_size=4))
def test_a_view_is_the_layers_applied_in_order(store: Store, stack: list[list[Item]]) -> None:
    """For random layers, the view's files are exactly those of the specification's own procedure."""
    state: dict[bytes, Entry] = {}
    for items in stack:
        state = apply(state, items)
    with View(store, [pack(store, items).layer for items in stack]) as view:
        found = {entry.path: entry for entry in view.walk() if entry.path}
        assert found == state
        for path, entry in found.items():
            assert view.lookup(path) == entry
        order = [os.fsdecode(p).split("/") for p in found]
        assert order == sorted(order)


def test_hard_links_of_links(store: Store) -> None:
    """A second name of a symlink is that symlink."""
    second = Entry(b"m", LNK, 0o777, link=b"l")
    layer = pack(store, [directory(b"d"), file(b"d/f"), link(b"l", b"d/f"), (second, None)]).layer
    with View(store, [layer]) as view:
        assert view.lookup(b"m") == Entry(b"m", SYM, 0o777, link=b"d/f")
        assert view.resolve(b"m") == b"d/f"
