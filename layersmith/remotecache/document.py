"""The exported cache as a document. In: records and cache mounts. Out: an OCI manifest in the store; and back.

    config   {"layers": [DiffID…], "absent": [{…descriptor, "diffID"}…],
              "records": [{"op", "parent", "inputs", "epoch", "layer", "created"}…], "mounts": […]}
    layers   the blobs, in the order of "layers"; a record's "layer" is an index into "layers" and then "absent"

An absent layer is known but not carried along (``mode=min``): the steps above it still find their keys by its DiffID.

A record holds what its key is made of, not the key: whoever reads it makes that himself. It holds no command, argument
or environment; the op is there by its digest alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from layersmith.dataclass import dataclass, replace
from layersmith.errors import TransportError
from layersmith.oci import mediatype
from layersmith.oci.descriptor import Descriptor, Layer
from layersmith.oci.digest import DiffID, Digest, parse_digest
from layersmith.oci.document import Fields, canonical, parse_object
from layersmith.oci.manifest import Manifest
from layersmith.solve.keys import key_of
from layersmith.store import Record, Store

ARTIFACT = "application/vnd.layersmith.cache.v1"
CONFIG = "application/vnd.layersmith.cache.config.v1+json"
MAX_RECORDS = 50_000


@dataclass(frozen=True, slots=True)
class SharedMount:
    """The content of a cache mount, as a layer with an entry for the root.

    ``source`` is where its first content came from, or None; see `store.mounts`.
    """

    id: str
    source: str | None
    layer: Layer


@dataclass(frozen=True, slots=True)
class CacheDocument:
    """What one cache holds; ``absent`` are the digests of those layers that it only knows."""

    records: tuple[Record, ...] = ()
    mounts: tuple[SharedMount, ...] = ()
    absent: frozenset[str] = frozenset()

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers of all records and mounts, each blob once."""
        found = [record.layer for record in self.records] + [mount.layer for mount in self.mounts]
        return tuple({layer.descriptor.digest: layer for layer in found if layer is not None}.values())

    def to_json(self, layers: Sequence[Layer]) -> dict[str, Any]:
        """The config's value; ``layers`` are those of the manifest."""
        carried = {layer.descriptor.digest for layer in layers}
        absent = [layer for layer in self.layers if layer.descriptor.digest not in carried]
        number = {layer.descriptor.digest: position for position, layer in enumerate([*layers, *absent])}
        value: dict[str, Any] = {
            "records": [_record_json(record, number) for record in self.records if "op" in record.inputs]
        }
        if absent:
            value["absent"] = [
                {**layer.descriptor.bare().to_json(), "diffID": layer.diff_id} for layer in absent
            ]
        if self.mounts:
            value["mounts"] = [
                {"id": mount.id, "layer": number[mount.layer.descriptor.digest]}
                | ({} if mount.source is None else {"source": mount.source})
                for mount in self.mounts
            ]
        return value

    def write(self, store: Store) -> Descriptor:
        """Put config and manifest into ``store``; the manifest's descriptor."""
        layers = tuple(layer for layer in self.layers if layer.descriptor.digest not in self.absent)
        value = self.to_json(layers) | {"layers": [layer.diff_id for layer in layers]}
        data = canonical(value)
        store.blobs.put(data)
        manifest = Manifest(
            Descriptor.of(CONFIG, data),
            tuple(layer.descriptor.bare() for layer in layers),
            artifact_type=ARTIFACT,
        )
        text = manifest.to_json()
        store.blobs.put(text)
        return replace(Descriptor.of(mediatype.OCI_MANIFEST, text), artifact_type=ARTIFACT)


def parse_document(data: bytes, blobs: Sequence[Descriptor]) -> CacheDocument:
    """The document in a cache manifest's config ``data``; ``blobs`` are the manifest's layers.

    Raises:
        TransportError: it is malformed, or speaks of layers that are not there.
    """
    fields = parse_object(data, "cache config")
    diff_ids = fields.texts("layers")
    if len(diff_ids) != len(blobs):
        raise TransportError(f"cache config: {len(diff_ids)} layers, but its manifest has {len(blobs)}")
    for blob in blobs:
        if not mediatype.is_layer(blob.media_type):
            raise TransportError(f"cache config: unknown layer media type {blob.media_type!r}")
    layers = [
        Layer(blob.bare(), DiffID(parse_digest(text))) for blob, text in zip(blobs, diff_ids, strict=True)
    ]
    return read_document(fields, layers)


def read_document(fields: Fields, layers: Sequence[Layer]) -> CacheDocument:
    """As `parse_document`, of parsed ``fields``; for an inline cache ``layers`` are those of its image."""
    found = fields.objects("records")
    if len(found) > MAX_RECORDS:
        raise TransportError(f"cache config: {len(found)} records", hint=f"at most {MAX_RECORDS} are read")
    absent = [
        Layer(Descriptor.from_fields(entry).bare(), DiffID(parse_digest(entry.required("diffID"))))
        for entry in fields.objects("absent")
    ]
    return CacheDocument(
        tuple(_record(entry, [*layers, *absent]) for entry in found),
        tuple(_mount(entry, layers) for entry in fields.objects("mounts")),
        frozenset(layer.descriptor.digest for layer in absent)
        - {layer.descriptor.digest for layer in layers},
    )


def _record_json(record: Record, number: Mapping[Digest, int]) -> dict[str, Any]:
    inputs = record.inputs
    value = {
        "op": inputs["op"],
        "parent": inputs["parent"],
        "inputs": inputs["inputs"],
        "epoch": inputs["epoch"],
        "layer": None if record.layer is None else number[record.layer.descriptor.digest],
        "created": int(record.created),
    }
    return {key: item for key, item in value.items() if item not in (None, {})}


def _record(fields: Fields, layers: Sequence[Layer]) -> Record:
    op, parent, inputs = fields.required("op"), fields.required("parent"), fields.pairs("inputs")
    epoch = fields.integer("epoch") if fields.has("epoch") else None
    return Record(
        _layer(fields, layers) if fields.has("layer") else None,
        {"op": op, "parent": parent, "inputs": dict(inputs), "epoch": epoch},
        step=op,
        created=float(fields.integer("created")),
        key=key_of(op, parent, inputs, epoch),
    )


def _mount(fields: Fields, layers: Sequence[Layer]) -> SharedMount:
    source = fields.text("source") if fields.has("source") else None
    return SharedMount(fields.required("id"), source, _layer(fields, layers))


def _layer(fields: Fields, layers: Sequence[Layer]) -> Layer:
    number = fields.integer("layer", -1)
    if not 0 <= number < len(layers):
        raise fields.wrong("layer", f"one of {len(layers)} layers")
    return layers[number]


def exportable(records: Iterable[Record]) -> tuple[Record, ...]:
    """``records`` with a layer, each key once, in an order that depends on nothing but them."""
    found = {record.key: record for record in records if record.layer is not None}
    return tuple(found[key] for key in sorted(found))
