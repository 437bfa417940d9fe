"""validate_image finds what is wrong, and nothing wrong with what is right."""

import pytest

from layersmith.dataclass import replace
from layersmith.oci import mediatype
from layersmith.oci.config import History, ImageConfig
from layersmith.oci.descriptor import Descriptor
from layersmith.oci.digest import DiffID, digest_of
from layersmith.oci.manifest import Index, Manifest
from layersmith.oci.platform import Platform
from layersmith.oci.validate import validate_image

LAYER = Descriptor.of(mediatype.OCI_LAYER, b"layer")
GOOD = ImageConfig(
    Platform("linux", "amd64"),
    created="2024-01-02T03:04:05Z",
    env=("PATH=/bin",),
    exposed_ports=("80/tcp",),
    diff_ids=(DiffID(digest_of(b"layer")),),
    history=(History(created_by="a"), History(created_by="b", empty_layer=True)),
)


class Blobs:
    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}

    def put(self, media_type: str, data: bytes) -> Descriptor:
        descriptor = Descriptor.of(media_type, data)
        self.data[descriptor.digest] = data
        return descriptor

    def read(self, descriptor: Descriptor) -> bytes:
        return self.data[descriptor.digest]

    def image(self, config: ImageConfig = GOOD, layers: tuple[Descriptor, ...] = (LAYER,)) -> Descriptor:
        manifest = Manifest(self.put(mediatype.OCI_CONFIG, config.to_json()), layers)
        return self.put(manifest.media_type, manifest.to_json())


def test_a_good_image_and_a_good_index_have_no_problems() -> None:
    """Nothing is said about an image that keeps every promise."""
    blobs = Blobs()
    image = blobs.image()
    index = Index((image,))
    assert validate_image(blobs.read, image) == []
    assert validate_image(blobs.read, blobs.put(index.media_type, index.to_json())) == []


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        (replace(GOOD, diff_ids=()), "0 DiffIDs"),
        (replace(GOOD, history=(History(),) * 2), "history tells of 2"),
        (replace(GOOD, created="yesterday"), "RFC 3339"),
        (replace(GOOD, env=("PATH",)), "NAME=value"),
        (replace(GOOD, env=("=x",)), "NAME=value"),
        (replace(GOOD, exposed_ports=("http",)), "not a port"),
        (replace(GOOD, platform=Platform("", "amd64")), "no os"),
    ],
)
def test_each_broken_promise_is_named(config: ImageConfig, wanted: str) -> None:
    """A problem is reported in words that say what it is."""
    blobs = Blobs()
    problems = validate_image(blobs.read, blobs.image(config))
    assert any(wanted in problem for problem in problems), problems


def test_layers_of_unknown_type_and_changed_bytes_are_found() -> None:
    """Media types and digests are checked as well."""
    blobs = Blobs()
    problems = validate_image(blobs.read, blobs.image(layers=(replace(LAYER, media_type="text/plain"),)))
    assert any("text/plain" in problem for problem in problems)
    image = blobs.image()
    blobs.data[image.digest] += b" "
    problems = validate_image(blobs.read, image)
    assert len(problems) == 2, problems
