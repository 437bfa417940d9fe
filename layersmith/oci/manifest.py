"""`Manifest` and `Index` (image-spec manifest.md, image-index.md); Docker's schema 2 is read and written alike."""

from __future__ import annotations

from typing import Any

from layersmith.dataclass import dataclass
from layersmith.errors import TransportError
from layersmith.oci import mediatype
from layersmith.oci.descriptor import Descriptor
from layersmith.oci.document import Annotations, Fields, canonical, parse_object

MAX_DESCRIPTORS = 10_000
"""Layers of a manifest or manifests of an index: more is an attack, for the kernel mounts 500."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """An image's config and its layers, lowest first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Annotations = ()
    media_type: str = mediatype.OCI_MANIFEST
    artifact_type: str = ""
    subject: Descriptor | None = None

    def to_json(self) -> bytes:
        """Canonical bytes."""
        value: dict[str, Any] = {
            "config": self.config.to_json(),
            "layers": [layer.to_json() for layer in self.layers],
        }
        return _document(value, self)

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """Read a manifest.

        Raises:
            TransportError: not JSON, not a schema 2 manifest, or also an index (CVE-2021-41190).
        """
        fields = _open(data, "manifest", mediatype.MANIFESTS)
        config = fields.object("config")
        if config is None:
            raise TransportError("manifest: 'config' is missing")
        if fields.has("manifests"):
            raise TransportError("manifest: has 'manifests' too, so it could be read as an index")
        return cls(
            config=Descriptor.from_fields(config),
            layers=_descriptors(fields, "layers"),
            annotations=fields.pairs("annotations"),
            media_type=fields.text("mediaType", mediatype.OCI_MANIFEST),
            artifact_type=fields.text("artifactType"),
            subject=_subject(fields),
        )


@dataclass(frozen=True, slots=True)
class Index:
    """A list of manifests, usually of one image for several platforms."""

    manifests: tuple[Descriptor, ...] = ()
    annotations: Annotations = ()
    media_type: str = mediatype.OCI_INDEX
    artifact_type: str = ""
    subject: Descriptor | None = None

    def to_json(self) -> bytes:
        """Canonical bytes."""
        return _document({"manifests": [manifest.to_json() for manifest in self.manifests]}, self)

    @classmethod
    def from_json(cls, data: bytes, *, most: int = MAX_DESCRIPTORS) -> Index:
        """Read an index.

        Raises:
            TransportError: not JSON, not an index, or also a manifest (CVE-2021-41190).
        """
        fields = _open(data, "index", mediatype.INDEXES)
        if fields.has("layers") or fields.has("config"):
            raise TransportError("index: has 'layers' or 'config' too, so it could be read as a manifest")
        return cls(
            manifests=_descriptors(fields, "manifests", most),
            annotations=fields.pairs("annotations"),
            media_type=fields.text("mediaType", mediatype.OCI_INDEX),
            artifact_type=fields.text("artifactType"),
            subject=_subject(fields),
        )


def parse_manifest(data: bytes, media_type: str) -> Manifest | Index:
    """The document that ``data`` is, by the media type of its descriptor, which the document must not contradict.

    Raises:
        TransportError: an unknown media type, or any reason of the two ``from_json``.
    """
    document: Manifest | Index
    if mediatype.is_manifest(media_type):
        document = Manifest.from_json(data)
    elif mediatype.is_index(media_type):
        document = Index.from_json(data)
    else:
        raise TransportError(
            f"media type {media_type!r} is neither an image manifest nor an index",
            hint="images of Docker's old schema 1 must be converted, for example with skopeo copy --format oci",
        )
    stated = parse_object(data, "manifest").text("mediaType", media_type)
    if stated != media_type:
        raise TransportError(f"a manifest described as {media_type} says that it is {stated}")
    return document


def _document(value: dict[str, Any], source: Manifest | Index) -> bytes:
    value["schemaVersion"] = 2
    value["mediaType"] = source.media_type
    if source.artifact_type:
        value["artifactType"] = source.artifact_type
    if source.annotations:
        value["annotations"] = dict(source.annotations)
    if source.subject is not None:
        value["subject"] = source.subject.to_json()
    return canonical(value)


def _open(data: bytes, what: str, types: frozenset[str]) -> Fields:
    fields = parse_object(data, what)
    if fields.integer("schemaVersion") != 2:
        raise TransportError(f"{what}: schemaVersion {fields.integer('schemaVersion')} is not supported")
    media_type = fields.text("mediaType")
    if media_type and media_type not in types:
        raise TransportError(f"{what}: its media type is {media_type!r}")
    return fields


def _descriptors(fields: Fields, key: str, most: int = MAX_DESCRIPTORS) -> tuple[Descriptor, ...]:
    found = fields.objects(key)
    if len(found) > most:
        raise TransportError(f"{key}: {len(found)} entries", hint=f"at most {most} are read")
    return tuple(Descriptor.from_fields(entry) for entry in found)


def _subject(fields: Fields) -> Descriptor | None:
    subject = fields.object("subject")
    return None if subject is None else Descriptor.from_fields(subject)
