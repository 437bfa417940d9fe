"""Differences between stacks of layers, held against a model: a dict of paths, changed layer by layer."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layersmith.anatomy.differences import Change, base_of, image_changes, layer_changes
from layersmith.image import SCRATCH
from layersmith.layer.entry import DIR, REG, Entry, Item, opaque, whiteout
from layersmith.layer.pack import pack
from layersmith.oci.config import History
from layersmith.oci.descriptor import Layer
from layersmith.store import Store

Model = dict[bytes, bytes | None]
"""path -> content, None for a directory."""

NAMES = (b"a", b"b")
PATHS = [b"/".join(parts) for depth in (1, 2, 3) for parts in itertools.product(NAMES, repeat=depth)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("store") / "store") as opened:
        yield opened


def below(model: Model, path: bytes) -> list[bytes]:
    return [other for other in model if other.startswith(path + b"/")]


def removed(model: Model, path: bytes) -> None:
    for other in [*below(model, path), path]:
        model.pop(other, None)


def parents(path: bytes) -> list[bytes]:
    return [path[:n] for n, byte in enumerate(path) if byte == ord("/")]


@st.composite
def stacks(draw: st.DrawFn) -> list[tuple[list[Item], Model]]:
    """Layers as a step could have made them, each with the files that there are then."""
    model: Model = {}
    found: list[tuple[list[Item], Model]] = []
    for _ in range(draw(st.integers(1, 4))):
        lower = dict(model)
        layer: dict[bytes, Item] = {}
        for path in draw(st.lists(st.sampled_from(PATHS), min_size=1, max_size=4, unique=True)):
            if any(model.get(parent, b"") is not None for parent in parents(path)):
                continue  # it would lie below a file, or in no directory
            action = draw(st.sampled_from(["file", "directory", "delete", "opaque"]))
            for written in [p for p in layer if p == path or p.startswith(path + b"/")]:
                del layer[written]
            was = path in lower and all(lower.get(p, b"") is None for p in parents(path))
            removed(model, path)
            if action == "delete":
                if was:
                    layer[path] = (whiteout(path), None)
            elif action == "file":
                body = draw(st.sampled_from([b"x", b"y"]))
                model[path] = body
                layer[path] = (Entry(path, REG, 0o644, size=len(body)), body)
            else:
                model[path] = None
                layer[path] = (Entry(path, DIR, 0o755), None)
                if lower.get(path, b"") is None:
                    layer[path + b"/"] = (opaque(path), None)
            for parent in parents(path):
                if model.get(parent, b"") is None:
                    layer.setdefault(parent, (Entry(parent, DIR, 0o755), None))
        items = [layer[key] for key in sorted(layer, key=lambda key: key.replace(b"/", b"\0"))]
        found.append((items, dict(model)))
    return found


def packed(store: Store, stack: list[tuple[list[Item], Model]]) -> list[Layer]:
    return [pack(store, items).layer for items, _ in stack]


def told(changes: Iterator[Change]) -> dict[bytes, str]:
    found = [(change.path, change.kind) for change in changes]
    assert len(found) == len(dict(found)), "a path is told once"
    return dict(found)


@settings(max_examples=25, deadline=None)
@given(stacks(), st.data())
def test_layer_changes_are_those_of_the_model(
    store: Store, stack: list[tuple[list[Item], Model]], data: st.DataObject
) -> None:
    """Exactly the added paths are A, the topmost of the deleted ones D, and whatever is different C."""
    split = data.draw(st.integers(0, len(stack) - 1))
    before: Model = stack[split - 1][1] if split else {}
    after = stack[-1][1]
    found = told(layer_changes(store, packed(store, stack), split))
    assert {path for path, kind in found.items() if kind == "A"} == after.keys() - before.keys()
    gone = before.keys() - after.keys()
    # Of what lay below a directory that is gone, or is a file now, nothing is told.
    top = {path for path in gone if all(after.get(parent, b"") is None for parent in parents(path))}
    assert {path for path, kind in found.items() if kind == "D"} == top
    different = {path for path in before.keys() & after.keys() if before[path] != after[path]}
    assert different <= {path for path, kind in found.items() if kind == "C"} <= before.keys() & after.keys()


@settings(max_examples=25, deadline=None)
@given(stacks(), stacks(), st.integers(0, 4))
def test_image_changes_are_exact(
    store: Store,
    one: list[tuple[list[Item], Model]],
    other: list[tuple[list[Item], Model]],
    shared: int,
) -> None:
    """Between any two images, also where one begins with the other: what has the same content is never told."""
    two = one[:shared] or other
    before, after = one[-1][1], two[-1][1]
    found = told(image_changes(store, packed(store, one), packed(store, two)))
    expected = dict.fromkeys(after.keys() - before.keys(), "A")
    expected |= {path: "C" for path in before.keys() & after.keys() if before[path] != after[path]}
    expected |= {
        path: "D"
        for path in before.keys() - after.keys()
        if all(after.get(parent, b"") is None for parent in parents(path))
    }
    assert found == expected


def test_the_base_is_the_largest_image_that_this_one_begins_with(tmp_path: Path) -> None:
    """Whatever it is called; an image of the same layers, or of others, is none."""

    def layer(name: bytes) -> Layer:
        return pack(store, [(Entry(name, REG, 0o644), b"")]).layer

    with Store.open(tmp_path / "store") as store:
        images = {"empty": SCRATCH()}
        for number, name in enumerate((b"a", b"b", b"c")):
            previous = list(images.values())[-1]
            images[f"with{number}"] = previous.append(layer(name), History())
        for name, image in images.items():
            store.refs.set(name, image.write(store))
        store.refs.set("other", SCRATCH().append(layer(b"z"), History()).write(store))
        assert base_of(store, images["with2"]) == (2, "with1:latest")
        assert base_of(store, images["with0"]) == (0, "scratch")
        store.refs.delete("with1")
        assert base_of(store, images["with2"]) == (1, "with0:latest")
