"""The exported cache as a document: it comes back as it was, and a forged one is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layersmith.errors import TransportError
from layersmith.oci import mediatype
from layersmith.oci.descriptor import Descriptor, Layer
from layersmith.oci.digest import DiffID, digest_of
from layersmith.oci.manifest import Manifest
from layersmith.remotecache.document import CacheDocument, SharedMount, parse_document
from layersmith.solve.keys import key_of
from layersmith.store import Record, Store

PARTS = {
    "op": "sha256:op",
    "parent": "scratch",
    "inputs": {"files": "sha256:f", "mount /x": "sha256:m"},
    "epoch": None,
}


def layer(name: str) -> Layer:
    data = name.encode()
    return Layer(Descriptor.of(mediatype.OCI_LAYER_ZSTD, data), DiffID(digest_of(data + b"tar")))


def record(name: str, **changes: Any) -> Record:
    parts: dict[str, Any] = PARTS | changes
    key = key_of(parts["op"], parts["parent"], parts["inputs"].items(), parts["epoch"])
    return Record(layer(name), parts | {"identity": "secret words"}, step=parts["op"], created=7.0, key=key)


def written(root: Path, document: CacheDocument) -> tuple[Manifest, bytes]:
    with Store.open(root) as store:
        manifest = Manifest.from_json(store.blobs.read(document.write(store)))
        return manifest, store.blobs.read(manifest.config)


def test_a_document_comes_back(tmp_path: Path) -> None:
    """Records with the same keys and layers, mounts, and what is absent; nothing that a command said."""
    records = (record("a"), record("b", epoch=0), record("c", parent="sha256:a"))
    mounts = (SharedMount("pip", None, layer("pip")), SharedMount("apt", "/var", layer("apt")))
    document = CacheDocument(records, mounts, frozenset({layer("b").descriptor.digest}))
    manifest, config = written(tmp_path, document)
    assert len(manifest.layers) == 4
    assert b"secret" not in config
    found = parse_document(config, manifest.layers)
    assert [(r.key, r.layer, r.created) for r in found.records] == [
        (r.key, r.layer, r.created) for r in records
    ]
    assert (found.mounts, found.absent) == (mounts, document.absent)


def test_a_key_is_made_of_the_parts(tmp_path: Path) -> None:
    """Whatever a document says of a step, its record is found under the key of just that."""
    manifest, config = written(tmp_path, CacheDocument((record("a"),)))
    value = json.loads(config)
    value["records"][0]["parent"] = "sha256:other"
    (found,) = parse_document(json.dumps(value).encode(), manifest.layers).records
    assert found.key == record("a", parent="sha256:other").key != record("a").key


@pytest.mark.parametrize(
    "spoil",
    [
        lambda value: value["records"][0].update(layer=1),
        lambda value: value["records"][0].update(layer=-1),
        lambda value: value["records"][0].update(layer="0"),
        lambda value: value["records"][0].pop("op"),
        lambda value: value["records"][0].update(inputs=[]),
        lambda value: value["records"][0].update(inputs={"a": 1}),
        lambda value: value["layers"].append("sha256:" + "0" * 64),
        lambda value: value.update(layers=["../../etc"]),
        lambda value: value.update(absent=[{"digest": "x"}]),
        lambda value: value.update(mounts=[{"id": "", "layer": 0}]),
        lambda value: value.update(mounts=[{"id": "x", "layer": 9}]),
        lambda value: value.update(records={}),
    ],
)
def test_forged_documents_are_refused(tmp_path: Path, spoil: Callable[[Any], object]) -> None:
    """An index out of range, a missing part, a type that is none: an error of transport, never a traceback."""
    manifest, config = written(tmp_path, CacheDocument((record("a"),)))
    value = json.loads(config)
    spoil(value)
    with pytest.raises(TransportError):
        parse_document(json.dumps(value).encode(), manifest.layers)


def test_only_layers_can_be_layers(tmp_path: Path) -> None:
    """A blob of a type that no layer has is refused before anybody unpacks it."""
    manifest, config = written(tmp_path, CacheDocument((record("a"),)))
    wrong = Descriptor("application/json", manifest.layers[0].digest, 1)
    with pytest.raises(TransportError):
        parse_document(config, [wrong])
