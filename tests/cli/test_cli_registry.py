"""``pull``, ``push``, ``login``, ``logout``: from the command line to a registry in this process and back."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from layersmith.cli import run
from layersmith.oci import mediatype
from layersmith.oci.config import ImageConfig
from layersmith.oci.descriptor import Descriptor
from layersmith.oci.digest import DiffID, digest_of
from layersmith.oci.manifest import Index, Manifest
from layersmith.oci.platform import Platform
from layersmith.store import Store
from layersmith.transport.registry.fake import FakeRegistry

EMPTY_TAR = bytes(10240)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRegistry]:
    """A registry; and a home and a store that are ours."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LAYERSMITH_ROOT", str(tmp_path / "store"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_CONFIG_HOME", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with FakeRegistry() as registry:
        yield registry


def add_image(fake: FakeRegistry, name: str, *tags: str, architecture: str = "amd64") -> Descriptor:
    config = ImageConfig(Platform("linux", architecture), diff_ids=(DiffID(digest_of(EMPTY_TAR)),)).to_json()
    layer = gzip.compress(EMPTY_TAR, mtime=0)
    for blob in (config, layer):
        fake.add_blob(name, blob)
    manifest = Manifest(
        Descriptor.of(mediatype.OCI_CONFIG, config), (Descriptor.of(mediatype.OCI_LAYER_GZIP, layer),)
    ).to_json()
    fake.add_manifest(name, manifest, *tags)
    return Descriptor.of(mediatype.OCI_MANIFEST, manifest)


def test_pull_names_the_image(fake: FakeRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    """A pulled tag is a name in the store, and its digest is printed."""
    image = add_image(fake, "team/app", "1")
    assert run(["pull", "--platform", "linux/amd64", f"{fake.host}/team/app:1"]) == 0
    assert capsys.readouterr().out == f"{image.digest}\n"
    with Store.open() as store:
        found = store.refs.get(f"{fake.host}/team/app:1")
    assert found is not None
    assert found.digest == image.digest


def test_pull_by_digest_is_kept(fake: FakeRegistry) -> None:
    """An image pulled by digest has no name, and is listed all the same."""
    image = add_image(fake, "team/app", "1")
    assert run(["pull", "-q", "--platform", "linux/amd64", f"{fake.host}/team/app@{image.digest}"]) == 0
    with Store.open() as store:
        assert [(name, found.digest) for name, found in store.refs.list()] == [("", image.digest)]


def test_pull_of_all_platforms(fake: FakeRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    """``--all-platforms`` takes the index, which can then be pushed whole."""
    images = [add_image(fake, "app", name, architecture=name) for name in ("amd64", "arm64")]
    index = Index(
        tuple(
            Descriptor(image.media_type, image.digest, image.size, platform=Platform("linux", name))
            for image, name in zip(images, ("amd64", "arm64"), strict=True)
        )
    ).to_json()
    fake.add_manifest("app", index, "all", media_type=mediatype.OCI_INDEX)
    assert run(["pull", "-q", "--all-platforms", f"{fake.host}/app:all"]) == 0
    assert capsys.readouterr().out == f"{digest_of(index)}\n"
    assert run(["push", "-q", f"{fake.host}/app:all", f"{fake.host}/copy:1"]) == 0
    assert fake.manifests["copy", "1"][1] == index


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["pull", "{host}/team/none"], 5, "no image"),
        (["pull", "127.0.0.1:1/app"], 6, "connection refused"),
        (["pull", "team/UPPER"], 2, "invalid image name"),
        (["pull", "--jobs", "0", "{host}/team/app:1"], 2, "--jobs"),
        (["pull", "--creds", "nocolon", "{host}/team/app:1"], 2, "user:password"),
        (["pull", "--platform", "linux/s390x", "{host}/team/index:1"], 5, "no image for linux/s390x"),
        (["push", "none"], 5, "no image"),
        (["login", "-u", "me", "--password-stdin", "-p", "x", "{host}"], 2, "--password-stdin"),
        (["login", "-u", "me", "word"], 2, "not a registry"),
    ],
)
def test_errors(
    fake: FakeRegistry, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, said: str
) -> None:
    """Every failure has its exit status and a message."""
    image = add_image(fake, "team/app", "1")
    entry = Descriptor(image.media_type, image.digest, image.size, platform=Platform("linux", "amd64"))
    fake.add_manifest("team/index", Index((entry,)).to_json(), "1", media_type=mediatype.OCI_INDEX)
    with Store.open():
        pass
    assert run([argument.format(host=fake.host) for argument in arguments]) == status
    assert said in capsys.readouterr().err


def test_push_converts(fake: FakeRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Compression and media types are changed on the way; the stored image stays as it is."""
    image = add_image(fake, "team/app", "1")
    name = f"{fake.host}/team/app:1"
    assert run(["pull", "-q", "--platform", "linux/amd64", name]) == 0
    options = ["--compression", "zstd", "--force-compression", "--digestfile", str(tmp_path / "digest")]
    assert run(["push", "-q", *options, name, f"{fake.host}/zstd:1", f"{fake.host}/zstd:2"]) == 0
    pushed = json.loads(fake.manifests["zstd", "1"][1])
    assert [layer["mediaType"] for layer in pushed["layers"]] == [mediatype.OCI_LAYER_ZSTD]
    assert fake.manifests["zstd", "2"] == fake.manifests["zstd", "1"]
    assert (tmp_path / "digest").read_text().strip() == digest_of(fake.manifests["zstd", "1"][1])
    assert run(["push", "-q", "--format", "docker", name, f"{fake.host}/docker:1"]) == 0
    assert fake.manifests["docker", "1"][0] == mediatype.DOCKER_MANIFEST
    with Store.open() as store:
        found = store.refs.get(name)
    assert found is not None
    assert found.digest == image.digest


def test_login_pull_logout(
    fake: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A login is checked before it is kept, used afterwards, and gone after the logout; no secret is printed."""
    fake.basic = ("me", "s3cret")
    add_image(fake, "team/app", "1")
    name = f"{fake.host}/team/app:1"
    pull = ["pull", "-q", "--platform", "linux/amd64"]
    login = ["login", "-u", "me", "--password-stdin", f"http://{fake.host}/"]
    assert run([*pull, name]) == 6
    monkeypatch.setattr("sys.stdin", io.StringIO("wr0ng\n"))
    assert run(login) == 6
    assert not (tmp_path / ".docker").exists()
    monkeypatch.setattr("sys.stdin", io.StringIO("s3cret\n"))
    assert run(login) == 0
    assert run([*pull, name]) == 0
    assert run(["logout", fake.host]) == 0
    assert run(["logout", fake.host]) == 0
    assert run([*pull, name]) == 6
    assert run([*pull, "--creds", "me:s3cret", name]) == 0
    printed = capsys.readouterr()
    assert "s3cret" not in printed.out + printed.err
    assert "wr0ng" not in printed.out + printed.err
    assert f"layersmith login {fake.host}" in printed.err
