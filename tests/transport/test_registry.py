"""Registries: pull and push against an in-process registry with faults. Whatever goes wrong, the store holds right blobs only."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from layersmith.errors import LayersmithError, NotFoundError, TransportError, UsageError
from layersmith.oci import mediatype
from layersmith.oci.descriptor import Descriptor, Layer
from layersmith.oci.digest import Digest, digest_of
from layersmith.oci.platform import Platform
from layersmith.oci.reference import Reference, parse_reference
from layersmith.progress import Event, Transfer
from layersmith.store import Store
from layersmith.transport.auth import Credentials, Keychain
from layersmith.transport.http import Client
from layersmith.transport.patience import Patience
from layersmith.transport.registry import Registry
from layersmith.transport.registry.challenge import Challenge, parse_challenges
from layersmith.transport.registry.fake import FakeRegistry
from layersmith.transport.registry.faults import (
    Append,
    Cut,
    CutRequest,
    Drip,
    Fault,
    Garble,
    Header,
    Status,
    Truncate,
)
from layersmith.transport.registry_config import RegistryConfig, RegistryEntry

QUICK = Patience(connect=2, read=5, attempts=4, first_wait=0.01)
BIG = bytes(range(256)) * 1200
AMD64 = Platform("linux", "amd64")


def shown(value: object) -> str:
    return str(value)[:60]


class Bench:
    """A fake registry, a store, and a `Registry` that knows both."""

    def __init__(self, fake: FakeRegistry, root: Path) -> None:
        self.fake = fake
        self.root = root
        self.store = Store.open(root / "store")

    def registry(
        self, *, credentials: Credentials | None = None, config: RegistryConfig | None = None
    ) -> Registry:
        config = config or RegistryConfig()
        client = Client(config.trust, patience=QUICK, environ={})
        environ = {"REGISTRY_AUTH_FILE": str(self.root / "none.json")}
        return Registry(config, Keychain(environ, override=credentials), client=client)

    def name(self, rest: str = "app:latest") -> Reference:
        return parse_reference(f"{self.fake.host}/{rest}")

    def pull(self, rest: str = "app:latest", **options: object) -> Descriptor:
        with self.registry() as registry:
            return registry.pull(self.store, self.name(rest), platform=AMD64, **options)  # type: ignore[arg-type]

    def stored(self) -> dict[str, bytes]:
        """All blobs in the store, each checked against its name."""
        found = {digest: self.store.blobs.path(digest).read_bytes() for digest in self.store.blobs.list()}
        assert all(digest_of(data) == digest for digest, data in found.items())
        return found


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with FakeRegistry() as fake:
        made = Bench(fake, tmp_path)
        with made.store:
            yield made


def descriptor(media_type: str, data: bytes) -> dict[str, object]:
    return Descriptor.of(media_type, data).to_json()


def add_image(
    fake: FakeRegistry,
    *layers: bytes,
    repository: str = "app",
    tag: str = "latest",
    architecture: str = "amd64",
) -> tuple[Descriptor, set[str]]:
    """An image at the registry: its descriptor, and the digests of all it consists of."""
    config = json.dumps(
        {
            "architecture": architecture,
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
        }
    ).encode()
    blobs = [gzip.compress(layer, 0, mtime=0) for layer in layers]
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": mediatype.OCI_MANIFEST,
            "config": descriptor(mediatype.OCI_CONFIG, config),
            "layers": [descriptor(mediatype.OCI_LAYER_GZIP, blob) for blob in blobs],
        }
    ).encode()
    digests = {fake.add_blob(repository, blob) for blob in (config, *blobs)}
    fake.add_manifest(repository, manifest, tag)
    found = Descriptor.of(mediatype.OCI_MANIFEST, manifest)
    return found, {*digests, found.digest}


def add_index(fake: FakeRegistry, *entries: tuple[Descriptor, str], tag: str = "latest") -> Descriptor:
    manifests = [
        {**found.to_json(), "platform": dict(zip(("os", "architecture"), platform.split("/"), strict=True))}
        for found, platform in entries
    ]
    index = json.dumps(
        {"schemaVersion": 2, "mediaType": mediatype.OCI_INDEX, "manifests": manifests}
    ).encode()
    fake.add_manifest("app", index, tag, media_type=mediatype.OCI_INDEX)
    return Descriptor.of(mediatype.OCI_INDEX, index)


# Pull


def test_pull_fetches_the_whole_image(bench: Bench) -> None:
    """Manifest, config and layers are in the store, and nothing else."""
    image, digests = add_image(bench.fake, BIG, b"two", b"three")
    assert bench.pull().digest == image.digest
    assert set(bench.stored()) == digests


def test_pull_again_fetches_nothing(bench: Bench) -> None:
    """What the store has is not asked for: a tag costs one HEAD, a digest no request at all."""
    image, _ = add_image(bench.fake, BIG)
    bench.pull()
    bench.fake.seen.clear()
    bench.pull()
    assert [(seen.method, seen.path) for seen in bench.fake.seen] == [
        ("GET", "/v2/"),
        ("HEAD", "/v2/app/manifests/latest"),
    ]
    bench.fake.seen.clear()
    assert bench.pull(f"app@{image.digest}") == image
    assert bench.fake.seen == []


def test_shared_layers_are_fetched_once(bench: Bench) -> None:
    """A layer that an image lists twice, or that is in the store, comes over the line once."""
    add_image(bench.fake, BIG, BIG, b"other")
    add_image(bench.fake, BIG, b"more", tag="next")
    bench.pull()
    bench.pull("app:next")
    big = digest_of(gzip.compress(BIG, 0, mtime=0))
    assert len(bench.fake.requests("GET", big)) == 1


def test_layers_are_told_as_they_come(bench: Bench) -> None:
    """``on_layer`` hears of each layer once, with those below it, when its blob is there."""
    add_image(bench.fake, BIG, b"two", b"three", b"two")
    told: dict[str, tuple[str, ...]] = {}

    def on_layer(layer: Layer, below: tuple[Layer, ...]) -> None:
        assert bench.store.blobs.path(layer.descriptor.digest).stat().st_size == layer.descriptor.size
        assert layer.diff_id not in told
        told[layer.diff_id] = tuple(lower.diff_id for lower in below)

    big, two, three = map(digest_of, (BIG, b"two", b"three"))
    bench.pull(on_layer=on_layer)
    assert told == {big: (), two: (big,), three: (big, two)}
    told.clear()
    bench.pull(on_layer=on_layer)
    assert len(told) == 3


def test_a_failing_listener_ends_the_pull(bench: Bench) -> None:
    """What ``on_layer`` raises (a layer that can't be unpacked) is what the pull raises."""
    add_image(bench.fake, BIG)

    def on_layer(layer: Layer, below: tuple[Layer, ...]) -> None:
        raise TransportError("no such luck")

    with pytest.raises(TransportError, match="no such luck"):
        bench.pull(on_layer=on_layer)


def test_config_of_another_image(bench: Bench) -> None:
    """A config that names another number of layers is refused before any is told of."""
    image, _ = add_image(bench.fake, b"one", b"two")
    document = json.loads(bench.fake.manifests["app", image.digest][1])
    document["layers"].pop()
    bench.fake.add_manifest("app", json.dumps(document).encode(), "wrong")
    with pytest.raises(TransportError, match="another image"):
        bench.pull("app:wrong", on_layer=lambda layer, below: pytest.fail("told"))


def test_lazy_pull_leaves_the_layers(bench: Bench) -> None:
    """Without layers, manifest and config come; a layer comes when it is asked for."""
    add_image(bench.fake, BIG, b"two")
    image = bench.pull(lazy=True)
    assert len(bench.stored()) == 2
    manifest = json.loads(bench.store.blobs.read(image))
    layer = Descriptor.from_json(manifest["layers"][0])
    with bench.registry() as registry:
        registry.fetch_blob(bench.store, bench.name(), layer)
        registry.fetch_blob(bench.store, bench.name(), layer)
    assert len(bench.stored()) == 3
    assert len(bench.fake.requests("GET", layer.digest)) == 1


def test_progress_is_told_to_the_end(bench: Bench) -> None:
    """Each blob's events grow, and end with its size."""
    _, digests = add_image(bench.fake, BIG, b"two")
    events: list[Transfer] = []

    class Listener:
        def emit(self, event: Event) -> None:
            assert isinstance(event, Transfer)
            events.append(event)

    bench.pull(progress=Listener())
    blobs = {event.what for event in events}
    assert blobs < digests
    assert len(blobs) == 3
    for blob in blobs:
        done = [event.done for event in events if event.what == blob]
        assert done == sorted(done)
        assert done[-1] == next(event.total for event in events if event.what == blob)


# Faults


CUTS: list[tuple[str, Fault]] = [
    ("manifests/latest", Status(503)),
    ("manifests/latest", Status(429, {"Retry-After": "0"})),
    ("manifests/sha256", Status(500)),
    ("manifests/", CutRequest(0)),
    ("blobs/", Status(429)),
    ("blobs/", Status(502)),
    ("blobs/", CutRequest(0)),
    ("blobs/", Cut(0)),
    ("blobs/", Cut(150_000)),
    ("blobs/", Truncate(70_000)),
    ("blobs/", Garble(3)),
    ("blobs/", Drip(0.01)),
    ("/v2/$", Status(503)),
    ("/v2/$", CutRequest(0)),
]


@pytest.mark.parametrize(("path", "fault"), CUTS, ids=shown)
@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no-ranges"])
def test_a_passing_fault_gives_the_right_image(bench: Bench, path: str, fault: Fault, ranges: bool) -> None:
    """One fault of any kind, anywhere, and the image still arrives whole and right."""
    bench.fake.ranges = ranges
    image, digests = add_image(bench.fake, BIG, b"two")
    bench.fake.fail(fault, path=path)
    assert bench.pull().digest == image.digest
    assert set(bench.stored()) == digests


LASTING: list[tuple[str, str, Fault]] = [
    ("GET", "manifests/", Garble(3)),
    ("GET", "manifests/", Header("Docker-Content-Digest", "sha256:" + "0" * 64)),
    ("GET", "manifests/", Truncate(20)),
    ("GET", "manifests/", Append(b" ")),
    ("GET", "manifests/", Header("Content-Type", mediatype.OCI_INDEX)),
    ("", "manifests/", Status(503)),
    ("", "manifests/", Status(200, {}, b"<html>Please log in</html>")),
    ("", "manifests/", Status(200, {"Content-Type": mediatype.OCI_MANIFEST}, b'{"schemaVersion": 1}')),
    ("", "manifests/", Status(200, {"Content-Type": mediatype.OCI_MANIFEST}, b"[" * 100_000)),
    ("GET", "blobs/", Garble(3)),
    ("GET", "blobs/", Cut(10)),
    ("GET", "blobs/", Truncate(10)),
    ("GET", "blobs/", Append(b"more")),
    ("GET", "blobs/", Status(200, {}, b"another blob")),
    ("GET", "blobs/", Status(404)),
    ("GET", "blobs/", Status(500)),
    ("GET", "blobs/", Status(403)),
    ("GET", "blobs/", Status(307, {"Location": "http://203.0.113.1/"})),
    ("GET", "blobs/", Status(206, {"Content-Range": "bytes 5-9/10"}, b"56789")),
]


@pytest.mark.parametrize(("method", "path", "fault"), LASTING, ids=shown)
def test_a_lasting_fault_is_a_clear_error(bench: Bench, method: str, path: str, fault: Fault) -> None:
    """However a registry keeps failing or lying, the pull raises and the store holds no wrong blob."""
    _, digests = add_image(bench.fake, BIG, b"two")
    bench.fake.fail(fault, path=path, method=method, times=1000)
    with pytest.raises((TransportError, NotFoundError)) as raised:
        bench.pull()
    assert raised.value.message
    assert set(bench.stored()) < digests
    assert list((bench.root / "store/tmp").rglob("blob*")) == []


def test_lying_tag_cant_replace_a_digest(bench: Bench) -> None:
    """Pulled by digest, nothing but that manifest is accepted."""
    image, _ = add_image(bench.fake, b"one")
    other, _ = add_image(bench.fake, b"two", tag="other")
    bench.fake.manifests["app", image.digest] = bench.fake.manifests["app", other.digest]
    with pytest.raises(TransportError, match="not what its digest says"):
        bench.pull(f"app@{image.digest}")


def test_image_of_wrong_size_is_refused(bench: Bench) -> None:
    """A manifest that gives a layer another size than it has is refused, though the digest be right."""
    image, _ = add_image(bench.fake, BIG)
    document = json.loads(bench.fake.manifests["app", image.digest][1])
    for size in (document["layers"][0]["size"] - 1, document["layers"][0]["size"] + 1):
        document["layers"][0]["size"] = size
        bench.fake.add_manifest("app", json.dumps(document).encode(), "wrong")
        with pytest.raises(TransportError):
            bench.pull("app:wrong")
    assert digest_of(gzip.compress(BIG, 0, mtime=0)) not in bench.stored()


def test_artifact_is_no_image(bench: Bench) -> None:
    """What is stored like an image but isn't one is named for what it holds."""
    image, _ = add_image(bench.fake, b"one")
    document = json.loads(bench.fake.manifests["app", image.digest][1])
    document["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json"
    bench.fake.add_manifest("app", json.dumps(document).encode(), "chart")
    with pytest.raises(TransportError, match=r"helm\.config"):
        bench.pull("app:chart")


def test_huge_config_is_refused(bench: Bench) -> None:
    """A config is small; one of gigabytes is refused before it is fetched."""
    image, _ = add_image(bench.fake, b"one")
    document = json.loads(bench.fake.manifests["app", image.digest][1])
    document["config"]["size"] = 1 << 40
    bench.fake.add_manifest("app", json.dumps(document).encode(), "huge")
    with pytest.raises(TransportError, match="config of"):
        bench.pull("app:huge")


def test_missing_image(bench: Bench) -> None:
    """No such tag is a NotFoundError that names what was asked for."""
    add_image(bench.fake, b"one")
    with pytest.raises(NotFoundError, match="app:gone"):
        bench.pull("app:gone")
    with bench.registry() as registry:
        assert not registry.exists(bench.name("app:gone"))
        assert registry.exists(bench.name())


# Indexes


def test_platform_is_chosen_from_an_index(bench: Bench) -> None:
    """Only the image for the platform asked for is fetched; its descriptor says which it is."""
    amd, amd_digests = add_image(bench.fake, b"amd", tag="amd")
    arm, _ = add_image(bench.fake, b"arm", tag="arm", architecture="arm64")
    index = add_index(bench.fake, (arm, "linux/arm64"), (amd, "linux/amd64"), (amd, "unknown/unknown"))
    found = bench.pull()
    assert (found.digest, str(found.platform)) == (amd.digest, "linux/amd64")
    assert set(bench.stored()) == {*amd_digests, index.digest}
    with bench.registry() as registry:
        assert registry.resolve(bench.name()) == index
        assert registry.resolve(bench.name(), Platform("linux", "arm64")).digest == arm.digest
        with pytest.raises(NotFoundError, match="no image for linux/s390x") as raised:
            registry.resolve(bench.name(), Platform("linux", "s390x"))
    assert "linux/amd64" in raised.value.hint
    assert "linux/arm64" in raised.value.hint


def test_all_platforms(bench: Bench) -> None:
    """The whole index can be fetched, and pushed elsewhere with its own digest."""
    amd, amd_digests = add_image(bench.fake, b"amd", tag="amd")
    arm, arm_digests = add_image(bench.fake, b"arm", tag="arm", architecture="arm64")
    index = add_index(bench.fake, (arm, "linux/arm64"), (amd, "linux/amd64"))
    with bench.registry() as registry:
        found = registry.pull(bench.store, bench.name(), all_platforms=True)
        assert found == index
        assert set(bench.stored()) == {*amd_digests, *arm_digests, index.digest}
        registry.push(bench.store, index, bench.name("copy/of:it"))
    assert bench.fake.manifests["copy/of", "it"] == bench.fake.manifests["app", "latest"]
    assert ("copy/of", arm.digest) in bench.fake.manifests


def test_endless_index_is_refused(bench: Bench) -> None:
    """Indexes nested without end are given up."""
    inner, _ = add_image(bench.fake, b"amd")
    for _ in range(6):
        inner = add_index(bench.fake, (inner, "linux/amd64"))
    with pytest.raises(TransportError, match="indexes within each other"):
        bench.pull()


# Push


def pushed(bench: Bench, *layers: bytes) -> Descriptor:
    """An image that is in the store and at no registry."""
    with FakeRegistry() as source:
        add_image(source, *layers)
        with bench.registry() as registry:
            return registry.pull(bench.store, parse_reference(f"{source.host}/app"), platform=AMD64)


def test_pushed_image_is_pulled_back(bench: Bench, tmp_path: Path) -> None:
    """What was pushed is the same image, and the tag comes after all it needs."""
    image = pushed(bench, BIG, b"two")
    with bench.registry() as registry:
        registry.push(bench.store, image, bench.name())
        with Store.open(tmp_path / "second") as second:
            assert registry.pull(second, bench.name(), platform=AMD64).digest == image.digest
    writes = [seen.path for seen in bench.fake.seen if seen.method == "PUT"]
    assert writes[-1] == "/v2/app/manifests/latest"


def test_known_blobs_are_not_sent(bench: Bench) -> None:
    """A second push sends no blob, under whatever tag."""
    image = pushed(bench, BIG, b"two")
    with bench.registry() as registry:
        registry.push(bench.store, image, bench.name())
        bench.fake.seen.clear()
        registry.push(bench.store, image, bench.name("app:next"))
    assert bench.fake.requests("POST", "") == []
    assert [seen.path for seen in bench.fake.seen if seen.method == "PUT"] == ["/v2/app/manifests/next"]


def test_base_layers_are_mounted(bench: Bench) -> None:
    """Layers of an image that came from another repository of the same registry are mounted from there."""
    base, _ = add_image(bench.fake, BIG, repository="base")
    bench.pull("base")
    bench.store.refs.set(f"{bench.fake.host}/base:latest", base)
    with bench.registry() as registry:
        registry.push(bench.store, base, bench.name("mine:1"))
    big = digest_of(gzip.compress(BIG, 0, mtime=0))
    assert ("mine", big) in bench.fake.blobs
    assert [seen.path for seen in bench.fake.requests("POST", "mount")] == [
        f"/v2/mine/blobs/uploads/?mount={big}&from=base"
    ]
    assert bench.fake.uploads == {}


def test_push_by_digest(bench: Bench) -> None:
    """Without a tag, an image is pushed under its digest; under another one it is not."""
    image = pushed(bench, b"one")
    with bench.registry() as registry:
        registry.push(bench.store, image, bench.name(f"app@{image.digest}"))
        with pytest.raises(UsageError, match="another digest"):
            registry.push(bench.store, image, bench.name("app@sha256:" + "0" * 64))
    assert set(bench.fake.manifests) == {("app", image.digest)}


def add_config(bench: Bench, image: Descriptor) -> None:
    """Put the image's config there, so that only its layer has to be uploaded."""
    config = Descriptor.from_json(json.loads(bench.store.blobs.read(image))["config"])
    bench.fake.add_blob("app", bench.store.blobs.read(config))


PUSH_FAULTS: list[tuple[str, str, Fault]] = [
    ("HEAD", "blobs/", Status(503)),
    ("POST", "uploads/", Status(429)),
    ("POST", "uploads/", CutRequest(0)),
    ("PUT", "uploads/", Status(502)),
    ("PUT", "uploads/", CutRequest(0)),
    ("PUT", "uploads/", CutRequest(1)),
    ("PUT", "uploads/", CutRequest(100_000)),
    ("PUT", "uploads/", Status(404)),
    ("PUT", "uploads/", Status(413)),
    ("PUT", "manifests/", Status(503)),
    ("PUT", "manifests/", CutRequest(0)),
]


@pytest.mark.parametrize(("method", "path", "fault"), PUSH_FAULTS, ids=shown)
def test_a_passing_fault_of_a_push(bench: Bench, method: str, path: str, fault: Fault) -> None:
    """One fault of any kind, and the image still arrives; the registry verified every blob."""
    image = pushed(bench, BIG, b"two")
    bench.fake.fail(fault, method=method, path=path)
    with bench.registry() as registry:
        registry.push(bench.store, image, bench.name())
    assert bench.fake.manifests["app", "latest"][1] == bench.store.blobs.read(image)
    assert all(digest_of(data) == digest for (_, digest), data in bench.fake.blobs.items())
    assert len(bench.fake.blobs) == 3


def test_broken_upload_goes_on_where_it_stopped(bench: Bench) -> None:
    """After a cut, only what the registry doesn't have yet is sent, even when it is cut again."""
    image = pushed(bench, BIG)
    add_config(bench, image)
    size = len(gzip.compress(BIG, 0, mtime=0))
    bench.fake.fail(CutRequest(200_000), method="PUT", path="uploads/")
    bench.fake.fail(CutRequest(50_000), method="PATCH", path="uploads/")
    with bench.registry() as registry:
        registry.push(bench.store, image, bench.name(), jobs=1)
    ranges = [seen.headers["content-range"] for seen in bench.fake.requests("PATCH", "uploads/")]
    assert ranges == [f"200000-{size - 1}", f"250000-{size - 1}"]


def test_too_large_a_request_is_sent_in_chunks(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a blob in one piece is refused with 413, it is sent in chunks."""
    monkeypatch.setattr("layersmith.transport.registry.upload.CHUNK", 100_000)
    image = pushed(bench, BIG)
    add_config(bench, image)
    bench.fake.fail(Status(413), method="PUT", path="uploads/")
    with bench.registry() as registry:
        registry.push(bench.store, image, bench.name(), jobs=1)
    assert len(bench.fake.requests("PATCH", "uploads/")) >= 4


@pytest.mark.parametrize(
    ("method", "path", "fault"),
    [
        ("PUT", "uploads/", Status(503)),
        ("PUT", "uploads/", CutRequest(0)),
        ("PUT", "uploads/", Status(400, {}, b'{"errors":[{"code":"DIGEST_INVALID","message":"no\x1b[2J"}]}')),
        ("POST", "uploads/", Status(405)),
        ("POST", "uploads/", Status(202)),
        ("POST", "uploads/", Status(202, {"Location": "http://203.0.113.1/up"})),
        ("PUT", "manifests/", Status(400)),
        ("PUT", "manifests/", Header("Docker-Content-Digest", "sha256:" + "0" * 64)),
    ],
    ids=shown,
)
def test_a_lasting_fault_of_a_push(bench: Bench, method: str, path: str, fault: Fault) -> None:
    """However a registry keeps refusing, the push raises without control characters, and a tag never names half an image."""
    image = pushed(bench, BIG)
    bench.fake.fail(fault, method=method, path=path, times=1000)
    with bench.registry() as registry:
        with pytest.raises(TransportError) as raised:
            registry.push(bench.store, image, bench.name())
    assert raised.value.message.isprintable()
    if "uploads" in path:
        assert bench.fake.manifests == {}


def test_incomplete_index_is_not_pushed(bench: Bench) -> None:
    """An index of which the store has one platform only can't be pushed whole, and the error says so."""
    amd, _ = add_image(bench.fake, b"amd", tag="amd")
    arm, _ = add_image(bench.fake, b"arm", tag="arm", architecture="arm64")
    index = add_index(bench.fake, (arm, "linux/arm64"), (amd, "linux/amd64"))
    bench.pull()
    with bench.registry() as registry:
        with pytest.raises(NotFoundError, match="linux/arm64"):
            registry.push(bench.store, index, bench.name("copy"))


# Tags


def test_tags_of_all_pages(bench: Bench) -> None:
    """The pages of the list are followed to the end."""
    for tag in ("a", "b", "c", "d", "e"):
        add_image(bench.fake, b"one", tag=tag)
    with bench.registry() as registry:
        assert list(registry.tags(bench.name())) == ["a", "b", "c", "d", "e"]


# Who we are


@pytest.mark.parametrize("kind", ["basic", "bearer"])
def test_login_is_used(bench: Bench, kind: str) -> None:
    """With the right credentials everything works; without, or with wrong ones, the error says what to do."""
    setattr(bench.fake, kind, ("me", "s3cret"))
    image, _ = add_image(bench.fake, BIG, b"two")
    with bench.registry(credentials=Credentials("me", "s3cret")) as registry:
        assert registry.pull(bench.store, bench.name(), platform=AMD64).digest == image.digest
        registry.push(bench.store, image, bench.name("mine:1"))
        registry.check_login(bench.fake.host, Credentials("me", "s3cret"))
        with pytest.raises(TransportError):
            registry.check_login(bench.fake.host, Credentials("me", "wr0ng"))
    for wrong in (None, Credentials("me", "wr0ng")):
        with bench.registry(credentials=wrong) as registry:
            with pytest.raises(TransportError) as raised:
                registry.resolve(bench.name())
        assert (
            "login" in raised.value.hint
            or "credentials" in raised.value.hint
            or "password" in raised.value.hint
        )
        assert "wr0ng" not in repr(raised.value) + raised.value.hint


def test_anonymous_token(bench: Bench) -> None:
    """Where anyone may pull, no credentials are needed, but a token is."""
    bench.fake.bearer, bench.fake.anonymous_pull = ("me", "s3cret"), True
    image, _ = add_image(bench.fake, BIG)
    assert bench.pull().digest == image.digest
    with bench.registry() as registry:
        with pytest.raises(TransportError):
            registry.push(bench.store, image, bench.name("mine:1"))


@pytest.mark.parametrize("life", [1, 2, 3])
def test_expired_tokens_are_renewed(bench: Bench, life: int) -> None:
    """A token that ends in the middle of a pull or push is replaced, and the request repeated, body and all."""
    bench.fake.bearer, bench.fake.token_life = ("me", "s3cret"), life
    image, digests = add_image(bench.fake, BIG, b"two", b"three")
    with bench.registry(credentials=Credentials("me", "s3cret")) as registry:
        registry.pull(bench.store, bench.name(), platform=AMD64, jobs=1)
        assert set(bench.stored()) == digests
        registry.push(bench.store, image, bench.name("mine:1"), jobs=1)
    assert ("mine", "1") in bench.fake.manifests


def test_tokens_are_kept(bench: Bench) -> None:
    """One token for a repository serves all requests of a pull."""
    bench.fake.bearer = ("me", "s3cret")
    add_image(bench.fake, BIG, b"two", b"three")
    with bench.registry(credentials=Credentials("me", "s3cret")) as registry:
        registry.pull(bench.store, bench.name(), platform=AMD64)
    assert len(bench.fake.requests("GET", "/token")) == 1


def test_credentials_stay_at_their_registry(bench: Bench) -> None:
    """A blob that is served from elsewhere is fetched without our token, and a challenge from there is not answered."""
    bench.fake.bearer = ("me", "s3cret")
    add_image(bench.fake, BIG)
    layer = digest_of(gzip.compress(BIG, 0, mtime=0))
    with FakeRegistry() as storage:
        storage.add_blob("app", gzip.compress(BIG, 0, mtime=0))
        where = {"Location": f"http://{storage.host}/v2/app/blobs/{layer}?signature=abc"}
        bench.fake.fail(Status(307, where), path=layer)
        with bench.registry(credentials=Credentials("me", "s3cret")) as registry:
            registry.pull(bench.store, bench.name(), platform=AMD64)
        assert all("authorization" not in seen.headers for seen in storage.seen)
        bench.store.blobs.path(layer).unlink()
        bench.fake.fail(Status(307, where), path=layer)
        storage.basic = ("any", "body")
        with bench.registry(credentials=Credentials("me", "s3cret")) as registry:
            with pytest.raises(TransportError):
                registry.pull(bench.store, bench.name(), platform=AMD64)
        assert all("authorization" not in seen.headers for seen in storage.seen)


@pytest.mark.parametrize(
    "challenge",
    ["", "Negotiate", "Bearer", 'Bearer service="x"', 'Bearer realm="ftp://x"', 'Digest realm="x"'],
)
def test_unknown_challenges(bench: Bench, challenge: str) -> None:
    """What a registry wants and we can't do is a clear error."""
    add_image(bench.fake, BIG)
    bench.fake.fail(Status(401, {"WWW-Authenticate": challenge}), path="/v2/", times=100)
    with pytest.raises(TransportError):
        bench.pull()


@pytest.mark.parametrize(
    ("header", "challenges"),
    [
        ('Bearer realm="https://a/t",service="s",scope="repository:x:pull,push"',
         (Challenge("bearer", "https://a/t", "s", "repository:x:pull,push"),)),
        ('Basic realm="a, b"', (Challenge("basic", "a, b"),)),
        ('BASIC realm=plain , Bearer realm="x"', (Challenge("basic", "plain"), Challenge("bearer", "x"))),
        ('Negotiate, Bearer realm = "q\\"uote"', (Challenge("negotiate"), Challenge("bearer", 'q"uote'))),
        ("Negotiate", (Challenge("negotiate"),)),
        ("", ()),
        (",,,", ()),
    ],
)  # fmt: skip
def test_challenges(header: str, challenges: tuple[Challenge, ...]) -> None:
    """Challenges are read as RFC 9110 writes them."""
    assert parse_challenges(header) == challenges


# Mirrors


def mirrored(bench: Bench, *mirrors: str) -> RegistryConfig:
    return RegistryConfig({bench.fake.host: RegistryEntry(mirrors=mirrors)})


def test_mirror_is_asked_first(bench: Bench) -> None:
    """An image comes from the mirror, under its path there, and the registry itself is not asked."""
    with FakeRegistry() as mirror:
        image, _ = add_image(mirror, BIG, repository="hub/app")
        config = mirrored(bench, f"{mirror.host}/hub")
        with bench.registry(config=config) as registry:
            assert registry.pull(bench.store, bench.name(), platform=AMD64).digest == image.digest
    assert bench.fake.seen == []


def break_nothing(mirror: FakeRegistry) -> None:
    add_image(mirror, b"other", tag="other")


def break_blobs(mirror: FakeRegistry) -> None:
    add_image(mirror, BIG, b"two")
    mirror.fail(Status(404), path="/blobs/", times=1000)


def break_bytes(mirror: FakeRegistry) -> None:
    add_image(mirror, BIG, b"two")
    mirror.fail(Garble(9), path="/blobs/", times=1000)


def break_all(mirror: FakeRegistry) -> None:
    mirror.fail(Status(503), path="", times=1000)


@pytest.mark.parametrize("break_mirror", [break_nothing, break_blobs, break_bytes, break_all])
def test_broken_mirror_is_passed_over(bench: Bench, break_mirror: Callable[[FakeRegistry], None]) -> None:
    """A mirror without the image, with half of it, with wrong bytes, or down, costs time but not the pull."""
    image, digests = add_image(bench.fake, BIG, b"two")
    with FakeRegistry() as mirror:
        break_mirror(mirror)
        with bench.registry(config=mirrored(bench, "127.0.0.1:1", mirror.host)) as registry:
            assert registry.pull(bench.store, bench.name(), platform=AMD64).digest == image.digest
    assert set(bench.stored()) == digests


def test_nothing_is_pushed_to_a_mirror(bench: Bench) -> None:
    """A push goes to the registry itself."""
    image = pushed(bench, b"one")
    with FakeRegistry() as mirror:
        with bench.registry(config=mirrored(bench, mirror.host)) as registry:
            registry.push(bench.store, image, bench.name())
        assert mirror.seen == []
    assert ("app", "latest") in bench.fake.manifests


def test_error_tells_of_all_sources(bench: Bench) -> None:
    """When neither mirror nor registry has it, the hint says what the mirror said."""
    with FakeRegistry() as mirror:
        with bench.registry(config=mirrored(bench, mirror.host)) as registry:
            with pytest.raises(NotFoundError) as raised:
                registry.pull(bench.store, bench.name(), platform=AMD64)
        assert mirror.host in raised.value.hint


# Foreign layers


def test_foreign_layer_comes_from_its_url(bench: Bench) -> None:
    """A layer that the registry doesn't have is fetched from its ``urls``, without credentials, and verified."""
    image, _ = add_image(bench.fake, BIG)
    document = json.loads(bench.fake.manifests["app", image.digest][1])
    layer = Digest(document["layers"][0]["digest"])
    blob = bench.fake.blobs.pop(("app", layer))
    with FakeRegistry() as elsewhere:
        elsewhere.add_blob("x", blob)
        document["layers"][0]["mediaType"] = mediatype.OCI_FOREIGN_LAYER + "+gzip"
        document["layers"][0]["urls"] = [f"http://{elsewhere.host}/v2/x/blobs/{layer}"]
        bench.fake.add_manifest("app", json.dumps(document).encode(), "foreign")
        bench.fake.basic = ("me", "s3cret")
        with bench.registry(credentials=Credentials("me", "s3cret")) as registry:
            registry.pull(bench.store, bench.name("app:foreign"), platform=AMD64)
        assert all("authorization" not in seen.headers for seen in elsewhere.seen)
    assert layer in bench.stored()


def test_errors_are_ours(bench: Bench) -> None:
    """Nothing listens there: a LayersmithError, not a traceback."""
    with bench.registry() as registry:
        with pytest.raises(LayersmithError, match="connection refused"):
            registry.resolve(parse_reference("127.0.0.1:1/app"))
