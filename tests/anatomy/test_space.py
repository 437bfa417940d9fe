"""What layers waste: the bytes that no one sees, and dive's figure, by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from layersmith.anatomy.space import Space, space
from layersmith.image import SCRATCH, Image
from layersmith.layer.compress import parse_compression
from layersmith.layer.entry import DIR, REG, Entry
from layersmith.layer.pack import pack
from layersmith.oci.config import History
from layersmith.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def space_of(store: Store, *layers: Mapping[str, int | None]) -> Space:
    """Layers of files by size; None is a directory, ``.wh.`` names are whiteouts."""
    image: Image = SCRATCH()
    for files in layers:
        entries = [
            (Entry(path.encode(), DIR, 0o755), None)
            if size is None
            else (Entry(path.encode(), REG, 0o644, size=size), b"x" * size)
            for path, size in sorted(files.items())
        ]
        layer = pack(store, entries, compression=parse_compression("none")).layer
        image = image.append(layer, History(None, "RUN x"))
    return space(store, image)


def shown(found: Space) -> list[list[tuple[str, str, int, int]]]:
    return [[(f.change, f.path.decode(), f.size, f.gone) for f in layer.files] for layer in found.layers]


def test_nothing_is_wasted_where_nothing_is_hidden(store: Store) -> None:
    """Layers that only add are perfect."""
    found = space_of(store, {"a": 100}, {"b": 50})
    assert (found.size, found.wasted, found.efficiency) == (150, 0, 1.0)


def test_an_overwritten_file_is_wasted(store: Store) -> None:
    """The lower one is carried along. Dive: least 60, all 160."""
    found = space_of(store, {"a": 100}, {"a": 60})
    assert shown(found) == [[("A", "a", 100, 2)], [("C", "a", 60, 0)]]
    assert (found.wasted, found.efficiency) == (100, 60 / 160)


def test_a_deleted_file_is_wasted(store: Store) -> None:
    """Dive takes a whiteout for a file of no bytes."""
    found = space_of(store, {"a": 100, "b": 300}, {".wh.a": 0})
    assert shown(found)[1] == [("D", "a", 0, 0)]
    assert (found.wasted, found.efficiency) == (100, 300 / 400)


def test_a_deleted_directory_is_wasted_with_all_below(store: Store) -> None:
    """Each file of it; dive counts what it held once more, at the directory's path."""
    found = space_of(store, {"d": None, "d/x": 10, "d/y": 20, "e": 70}, {".wh.d": 0})
    assert [f[3] for f in shown(found)[0]] == [2, 2, 2, 0]
    assert found.wasted == 30
    assert found.efficiency == 1.0


def test_an_opaque_directory_hides_what_was_in_it(store: Store) -> None:
    """But not what its own layer puts there."""
    found = space_of(store, {"d": None, "d/x": 10}, {"d": None, "d/.wh..wh..opq": 0, "d/y": 5})
    assert [(f.path, f.gone) for f in found.layers[0].files] == [(b"d", 0), (b"d/x", 2)]
    assert [(f.change, f.path, f.gone) for f in found.layers[1].files] == [("C", b"d", 0), ("A", b"d/y", 0)]


def test_a_file_in_a_directorys_place_hides_it(store: Store) -> None:
    """With all that it held."""
    found = space_of(store, {"d": None, "d/x": 10}, {"d": 3})
    assert found.wasted == 10


def test_what_came_back_is_not_gone(store: Store) -> None:
    """Deleted in one layer, there again in the next."""
    found = space_of(store, {"a": 10}, {".wh.a": 0}, {"a": 10})
    assert [f[0][3] for f in shown(found)] == [2, 0, 0]
    assert found.layers[2].files[0].change == "A"
    assert [file.path for _, file in found.waste(5)] == [b"a"]
