"""Image: config and layers that can't drift apart, and what is read is what was written."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from layersmith.dataclass import replace
from layersmith.errors import DigestMismatchError, NotFoundError, TransportError
from layersmith.image import SCRATCH, Image, choose
from layersmith.oci import mediatype
from layersmith.oci.config import History, ImageConfig
from layersmith.oci.descriptor import Descriptor, Layer
from layersmith.oci.digest import DiffID, digest_of
from layersmith.oci.manifest import Index, Manifest
from layersmith.oci.platform import Platform, parse_platform
from layersmith.oci.validate import validate_image
from layersmith.store import Store

AMD64 = parse_platform("linux/amd64")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "root") as opened:
        yield opened


def layer(store: Store, data: bytes, media_type: str = mediatype.OCI_LAYER_ZSTD) -> Layer:
    store.blobs.put(data)
    return Layer(Descriptor.of(media_type, data), DiffID(digest_of(b"tar of " + data)))


def test_append_changes_nothing_but_the_new_image(store: Store) -> None:
    """The old image is as it was; the new one has one more layer, DiffID and history entry, in step."""
    first = SCRATCH(AMD64).append(layer(store, b"a"), History(created_by="a"))
    second = first.append(None, History(created_by="ENV")).append(layer(store, b"b"), History(created_by="b"))
    assert len(first.layers) == len(first.config.diff_ids) == len(first.config.history) == 1
    assert [entry.empty_layer for entry in second.config.history] == [False, True, False]
    assert second.config.diff_ids == tuple(each.diff_id for each in second.layers)


def test_write_and_read(store: Store) -> None:
    """An image reads back as itself, and is valid; written twice it has the same digest."""
    image = SCRATCH(AMD64)
    for name in (b"a", b"b"):
        image = image.append(layer(store, name), History(created_by=name.decode()))
    image = image.configured(replace(image.config, env=("A=1",), cmd=("sh",)))
    descriptor = image.write(store)
    assert Image.read(store, descriptor) == image
    assert validate_image(store.blobs.read, descriptor) == []
    assert image.write(store) == descriptor


def test_dockers_media_types(store: Store) -> None:
    """Schema 2 on request: every type of the family, and the same image when read."""
    image = SCRATCH(AMD64).append(layer(store, b"a", mediatype.OCI_LAYER_GZIP), History())
    descriptor = image.write(store, docker=True)
    manifest = Manifest.from_json(store.blobs.read(descriptor))
    assert descriptor.media_type == manifest.media_type == mediatype.DOCKER_MANIFEST
    assert manifest.config.media_type == mediatype.DOCKER_CONFIG
    assert manifest.layers[0].media_type == mediatype.DOCKER_LAYER_GZIP
    assert Image.read(store, descriptor).config == image.config
    assert validate_image(store.blobs.read, descriptor) == []


def test_what_docker_said_of_the_base_is_not_said_of_the_result(store: Store) -> None:
    """container_config and the like describe how the base was made."""
    base = replace(
        SCRATCH(AMD64).config, extra=(("container", '"x"'), ("config/Image", '"y"'), ("moby", "1"))
    )
    assert Image(base).append(None, History()).config.extra == (("moby", "1"),)


def index_of(store: Store, *platforms: str | None) -> Descriptor:
    entries = []
    for text in platforms:
        platform = Platform("unknown", "unknown") if text is None else parse_platform(text)
        entry = SCRATCH(platform).append(None, History(created_by=str(text))).write(store)
        if text is None:
            entry = entry.annotated(**{"vnd.docker.reference.type": "attestation-manifest"})
        entries.append(entry)
    data = Index(tuple(entries)).to_json()
    return Descriptor(mediatype.OCI_INDEX, store.blobs.put(data), len(data))


def test_an_index_is_followed(store: Store) -> None:
    """The best match for the platform is read; attestations are never taken for an image."""
    index = index_of(store, "linux/amd64", "linux/arm/v6", "linux/arm/v7", None)
    arm = Image.read(store, index, parse_platform("linux/arm/v7"))
    assert str(arm.config.platform) == "linux/arm/v7"
    assert str(Image.read(store, index, parse_platform("linux/amd64/v3")).config.platform) == "linux/amd64"
    with pytest.raises(NotFoundError, match="riscv64") as caught:
        Image.read(store, index, parse_platform("linux/riscv64"))
    assert "linux/arm/v7" in caught.value.hint and "unknown" not in caught.value.hint


def test_a_single_image_without_platform_is_taken() -> None:
    """Layouts that other tools write often do not say what their one image is for."""
    only = Descriptor.of(mediatype.OCI_MANIFEST, b"x")
    assert choose(Index((only,)), AMD64) == only
    with pytest.raises(NotFoundError):
        choose(Index((only, only)), AMD64)


def test_damage_and_nonsense_are_errors(store: Store) -> None:
    """A config that does not fit its manifest, an artifact, a foreign blob, a flipped bit: each is a clear error."""
    image = SCRATCH(AMD64).append(layer(store, b"a"), History())
    bad = Image(image.config, image.layers * 2).write(store)
    with pytest.raises(TransportError, match="2 layers"):
        Image.read(store, bad)
    config = Descriptor(mediatype.OCI_EMPTY, store.blobs.put(b"{}"), 2)
    data = Manifest(config, (), artifact_type="application/x").to_json()
    with pytest.raises(TransportError, match="artifact"):
        Image.read(store, Descriptor(mediatype.OCI_MANIFEST, store.blobs.put(data), len(data)))
    strange = replace(image.layers[0], descriptor=Descriptor.of("text/html", b"a"))
    with pytest.raises(TransportError, match="text/html"):
        Image.read(store, Image(image.config, (strange,)).write(store))
    good = image.write(store)
    path = store.blobs.path(good.digest)
    path.write_bytes(path.read_bytes().replace(b"config", b"confih"))
    with pytest.raises(DigestMismatchError, match=good.digest):
        Image.read(store, good)


def test_scratch_is_an_empty_image(store: Store) -> None:
    """No layers, no history, no settings; and it can be written."""
    assert SCRATCH(AMD64) == Image(ImageConfig(AMD64), ())
    assert validate_image(store.blobs.read, SCRATCH(AMD64).write(store)) == []
