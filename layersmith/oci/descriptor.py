"""`Descriptor` (image-spec descriptor.md), and `Layer`: a descriptor together with its DiffID."""

from __future__ import annotations

from typing import Any

from layersmith.dataclass import dataclass, replace
from layersmith.errors import TransportError
from layersmith.oci.digest import DiffID, Digest, digest_of, parse_digest
from layersmith.oci.document import Annotations, Fields
from layersmith.oci.platform import Platform

REF_NAME = "org.opencontainers.image.ref.name"

ATTESTATION = "vnd.docker.reference.type"
"""BuildKit's annotation of manifests in an index that are no images, but statements about one."""

ATTESTED = "vnd.docker.reference.digest"
"""Whose digest such a manifest is about."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a blob is, its digest and its size in bytes. ``annotations`` are sorted pairs."""

    media_type: str
    digest: Digest
    size: int
    annotations: Annotations = ()
    platform: Platform | None = None
    urls: tuple[str, ...] = ()
    artifact_type: str | None = None

    @classmethod
    def of(cls, media_type: str, data: bytes) -> Descriptor:
        """The descriptor of ``data``."""
        return cls(media_type, digest_of(data), len(data))

    def annotation(self, name: str) -> str | None:
        """The value of an annotation, or None."""
        return next((value for key, value in self.annotations if key == name), None)

    def annotated(self, **values: str) -> Descriptor:
        """With these annotations set (dots do not fit keywords: pass ``**{name: value}``)."""
        return replace(self, annotations=tuple(sorted({**dict(self.annotations), **values}.items())))

    def bare(self) -> Descriptor:
        """Without annotations, platform and URLs: what the blob is, wherever it was found."""
        return Descriptor(self.media_type, self.digest, self.size)

    def to_json(self) -> dict[str, Any]:
        """As the JSON object that manifests and indexes hold."""
        value: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.artifact_type:
            value["artifactType"] = self.artifact_type
        if self.annotations:
            value["annotations"] = dict(self.annotations)
        if self.platform is not None:
            value["platform"] = self.platform.to_json()
        if self.urls:
            value["urls"] = list(self.urls)
        return value

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Descriptor:
        """The inverse of `to_json`.

        Raises:
            TransportError: a member is missing or of the wrong type.
        """
        return cls.from_fields(Fields(value, "descriptor"))

    @classmethod
    def from_fields(cls, fields: Fields) -> Descriptor:
        """As `from_json`, of a nested object."""
        size = fields.integer("size", -1)
        if not 0 <= size < 1 << 63:
            raise TransportError(f"descriptor of {fields.text('digest')!r}: its size is missing or negative")
        platform = fields.object("platform")
        return cls(
            media_type=fields.required("mediaType"),
            digest=parse_digest(fields.required("digest")),
            size=size,
            annotations=fields.pairs("annotations"),
            platform=None if platform is None else Platform.from_fields(platform),
            urls=fields.texts("urls"),
            artifact_type=fields.text("artifactType") or None,
        )


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer's blob, and the digest of the tar in it."""

    descriptor: Descriptor
    diff_id: DiffID
