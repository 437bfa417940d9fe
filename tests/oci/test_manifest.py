"""Manifests, indexes and descriptors: round trips, Docker's schema 2, and documents that claim to be two things."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layersmith.errors import TransportError
from layersmith.oci import mediatype
from layersmith.oci.descriptor import Descriptor
from layersmith.oci.digest import digest_of
from layersmith.oci.manifest import Index, Manifest, parse_manifest
from layersmith.oci.platform import Platform

TEXT = st.text(max_size=10)
PAIRS = st.dictionaries(TEXT, TEXT, max_size=3).map(lambda d: tuple(sorted(d.items())))
DESCRIPTORS = st.builds(
    Descriptor,
    media_type=st.text(min_size=1, max_size=10),
    digest=st.binary(max_size=4).map(digest_of),
    size=st.integers(0, (1 << 63) - 1),
    annotations=PAIRS,
    platform=st.none() | st.builds(Platform, TEXT, TEXT),
    urls=st.lists(TEXT, max_size=2).map(tuple),
    artifact_type=st.none() | st.text(min_size=1, max_size=5),
)


@given(DESCRIPTORS)
@settings(max_examples=50)
def test_descriptors_round_trip(descriptor: Descriptor) -> None:
    """A descriptor reads back as itself."""
    assert Descriptor.from_json(json.loads(json.dumps(descriptor.to_json()))) == descriptor


@given(
    DESCRIPTORS,
    st.lists(DESCRIPTORS, max_size=3).map(tuple),
    PAIRS,
    st.sampled_from(sorted(mediatype.MANIFESTS)),
)
@settings(max_examples=50)
def test_manifests_round_trip(
    config: Descriptor, layers: tuple[Descriptor, ...], annotations: tuple[tuple[str, str], ...], kind: str
) -> None:
    """A manifest of either family reads back as itself, with the same bytes."""
    manifest = Manifest(config, layers, annotations, kind, subject=config)
    data = manifest.to_json()
    assert parse_manifest(data, kind) == manifest
    assert Manifest.from_json(data).to_json() == data


@given(st.lists(DESCRIPTORS, max_size=3).map(tuple), st.sampled_from(sorted(mediatype.INDEXES)))
@settings(max_examples=30)
def test_indexes_round_trip(manifests: tuple[Descriptor, ...], kind: str) -> None:
    """An index of either family reads back as itself."""
    index = Index(manifests, media_type=kind)
    assert parse_manifest(index.to_json(), kind) == index


CONFIG = Descriptor.of(mediatype.OCI_CONFIG, b"{}")


def test_a_document_that_is_two_things_is_refused() -> None:
    """CVE-2021-41190: a document that one reader takes for a manifest and another for an index."""
    both = json.dumps(
        {"schemaVersion": 2, "config": CONFIG.to_json(), "layers": [], "manifests": [CONFIG.to_json()]}
    ).encode()
    for kind in (mediatype.OCI_MANIFEST, mediatype.OCI_INDEX):
        with pytest.raises(TransportError):
            parse_manifest(both, kind)


def test_the_descriptors_media_type_must_not_be_contradicted() -> None:
    """A manifest described as OCI that says it is Docker's is refused; one that says nothing is fine."""
    docker = Manifest(CONFIG, (), media_type=mediatype.DOCKER_MANIFEST).to_json()
    with pytest.raises(TransportError):
        parse_manifest(docker, mediatype.OCI_MANIFEST)
    silent = json.loads(docker)
    del silent["mediaType"]
    assert parse_manifest(json.dumps(silent).encode(), mediatype.OCI_MANIFEST) == Manifest(CONFIG, ())


@pytest.mark.parametrize(
    "value",
    [
        {"schemaVersion": 1},
        {"schemaVersion": 2},
        {"schemaVersion": 2, "config": CONFIG.to_json(), "layers": {}},
        {"schemaVersion": 2, "config": {**CONFIG.to_json(), "size": -1}, "layers": []},
        {"schemaVersion": 2, "config": {**CONFIG.to_json(), "size": True}, "layers": []},
        {"schemaVersion": 2, "config": {**CONFIG.to_json(), "digest": "sha256:x"}, "layers": []},
        {"schemaVersion": 2, "mediaType": mediatype.OCI_INDEX, "config": CONFIG.to_json(), "layers": []},
    ],
)
def test_malformed_manifests_are_errors(value: dict[str, object]) -> None:
    """Each is a TransportError."""
    with pytest.raises(TransportError):
        parse_manifest(json.dumps(value).encode(), mediatype.OCI_MANIFEST)


def test_unknown_media_types_are_named() -> None:
    """The error names the type, and schema 1 gets a hint."""
    with pytest.raises(TransportError, match=r"v1\+prettyjws") as caught:
        parse_manifest(b"{}", "application/vnd.docker.distribution.manifest.v1+prettyjws")
    assert "schema 1" in caught.value.hint


def test_layer_media_types_say_how_they_are_compressed() -> None:
    """Every layer type is known with its compression, and the two families map to each other."""
    for docker in (False, True):
        for compression in ("none", "gzip", "zstd"):
            assert mediatype.compression(mediatype.layer_type(compression, docker=docker)) == compression
    assert mediatype.compression(mediatype.DOCKER_FOREIGN_LAYER) == "gzip"
    assert mediatype.compression(mediatype.OCI_CONFIG) is None
    assert mediatype.is_foreign(mediatype.OCI_FOREIGN_LAYER + "+gzip") and not mediatype.is_foreign(
        mediatype.OCI_LAYER
    )
