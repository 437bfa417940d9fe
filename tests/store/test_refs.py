"""Names of images, and that the store's root is an OCI layout."""

import json
import threading
from pathlib import Path

import pytest

from layersmith.errors import NotFoundError, StoreError, UsageError
from layersmith.oci import mediatype
from layersmith.oci.descriptor import Descriptor
from layersmith.oci.platform import Platform
from layersmith.store import Store

A = Descriptor.of(mediatype.OCI_MANIFEST, b"a")
B = Descriptor.of(mediatype.OCI_MANIFEST, b"b")


def test_an_empty_store_is_a_layout(root: Path) -> None:
    """oci-layout and index.json are there from the start, as image-layout.md has them."""
    Store.open(root).close()
    assert json.loads((root / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((root / "index.json").read_bytes())
    assert (index["schemaVersion"], index["manifests"]) == (2, [])


def test_a_name_without_tag_is_latest(store: Store) -> None:
    """demo and demo:latest are one name, and both are in the index for other tools."""
    store.refs.set("demo", A)
    assert (
        store.refs.get("demo")
        == store.refs.get("demo:latest")
        == store.refs.get("docker.io/library/demo")
        == A
    )
    assert store.refs.list() == (("demo:latest", A),)
    entries = json.loads((store.root / "index.json").read_bytes())["manifests"]
    names = [entry["annotations"]["org.opencontainers.image.ref.name"] for entry in entries]
    assert names == ["demo", "demo:latest"]


def test_setting_a_name_again_moves_it(store: Store) -> None:
    """The old image loses the name, other names stay."""
    store.refs.set("demo:1", A)
    store.refs.set("demo", A)
    store.refs.set("demo", B)
    assert (store.refs.get("demo"), store.refs.get("demo:1")) == (B, A)


def test_names_with_ports_and_digests(store: Store) -> None:
    """A port is no tag; a digest must match."""
    store.refs.set("localhost:5000/x", A)
    assert store.refs.get("localhost:5000/x:latest") == A
    assert store.refs.get(f"localhost:5000/x@{A.digest}") == A
    assert store.refs.get(f"localhost:5000/x:latest@{B.digest}") is None
    assert [name for name, _ in store.refs.list()] == ["localhost:5000/x:latest"]
    with pytest.raises(UsageError):
        store.refs.set(f"x@{A.digest}", A)


def test_delete(store: Store) -> None:
    """A deleted name is gone in both spellings; one that is not there is an error."""
    store.refs.set("demo", A)
    store.refs.delete("demo:latest")
    assert store.refs.get("demo") is None and store.refs.list() == ()
    with pytest.raises(NotFoundError):
        store.refs.delete("demo")


def test_images_without_a_name(store: Store) -> None:
    """They are found by digest and by its beginning, and named later they are listed once."""
    store.refs.keep(A)
    store.refs.keep(A)
    assert store.refs.list() == (("", A),)
    assert store.refs.resolve(A.digest) == store.refs.resolve(A.digest[7:19]) == A
    store.refs.set("demo", A)
    assert store.refs.list() == (("demo:latest", A),)
    with pytest.raises(NotFoundError):
        store.refs.resolve("0000000")


def test_an_ambiguous_digest_is_refused(store: Store) -> None:
    """Two images that begin alike are not guessed between."""
    one = Descriptor(A.media_type, type(A.digest)("sha256:" + "ab" * 32), 1)
    two = Descriptor(A.media_type, type(A.digest)("sha256:" + "ab" * 31 + "cd"), 1)
    store.refs.keep(one)
    store.refs.keep(two)
    with pytest.raises(NotFoundError, match="2 images"):
        store.refs.resolve("abababab")


def test_the_platform_is_in_the_index(store: Store) -> None:
    """Listing shows what an image is for; getting it gives the bare descriptor."""
    image = Descriptor(A.media_type, A.digest, A.size, platform=Platform("linux", "arm64"))
    store.refs.set("demo", image)
    assert store.refs.list()[0][1].platform == Platform("linux", "arm64")
    assert store.refs.get("demo") == A


def test_many_writers_lose_nothing(root: Path) -> None:
    """Names set by several stores at once are all there in the end."""
    Store.open(root).close()

    def name(number: int) -> None:
        with Store.open(root) as store:
            for each in range(5):
                store.refs.set(f"n{number}:{each}", A)

    threads = [threading.Thread(target=name, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Store.open(root) as store:
        assert len(store.refs.list()) == 20


def test_a_damaged_index_is_named(store: Store) -> None:
    """Half a file is a StoreError that names it, for reading and for writing."""
    path = store.root / "index.json"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(StoreError, match=r"index\.json"):
        store.refs.get("demo")
    with pytest.raises(StoreError, match=r"index\.json"):
        store.refs.set("demo", A)


def test_more_names_than_an_image_may_have_manifests(store: Store) -> None:
    """What bounds an index from elsewhere does not bound the store's own."""
    digest = store.blobs.put(b"{}")
    entry = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 2}
    names = [f"localhost/image{number}:latest" for number in range(10_001)]
    entries = [{**entry, "annotations": {"org.opencontainers.image.ref.name": name}} for name in names]
    (store.root / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    assert len(store.refs.list()) == 10_001
