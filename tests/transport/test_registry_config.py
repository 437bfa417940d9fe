"""The configuration of registries: YAML files, certs.d, and what follows for hosts and names."""

from __future__ import annotations

from pathlib import Path

import pytest

from layersmith.errors import TransportError, UsageError
from layersmith.oci.reference import parse_reference
from layersmith.transport.registry_config import RegistryConfig, RegistryEntry


def load(home: Path, text: str | None = None) -> RegistryConfig:
    if text is not None:
        path = home / ".config/layersmith/config.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return RegistryConfig.load({"HOME": str(home)})


def test_no_file(tmp_path: Path) -> None:
    """Without a file there are only the defaults: https, and Docker Hub behind docker.io."""
    config = load(tmp_path)
    (hub,) = config.endpoints(parse_reference("alpine"))
    assert (hub.domain, hub.host, hub.bases) == (
        "docker.io",
        "registry-1.docker.io",
        ("https://registry-1.docker.io",),
    )
    assert hub.path == "library/alpine"
    assert not config.trust("registry-1.docker.io").plain_http


def test_everything_in_the_file(tmp_path: Path) -> None:
    """Mirrors come first, for pulls only; insecure hosts may do without TLS; aliases stand for names."""
    config = load(
        tmp_path,
        """
registries:
  docker.io: {mirrors: ["cache.example.com:5000/hub", mirror.example.com]}
  cache.example.com:5000: {insecure: true}
aliases: {ubi9: registry.access.redhat.com/ubi9}
""",
    )
    first, second, hub = config.endpoints(parse_reference("alpine"))
    assert (first.host, first.path) == ("cache.example.com:5000", "hub/library/alpine")
    assert first.bases == ("https://cache.example.com:5000", "http://cache.example.com:5000")
    assert (second.host, second.path, second.bases) == (
        "mirror.example.com",
        "library/alpine",
        ("https://mirror.example.com",),
    )
    assert hub.host == "registry-1.docker.io"
    assert config.endpoints(parse_reference("alpine"), push=True) == (hub,)
    trust = config.trust("cache.example.com:5000")
    assert trust.plain_http
    assert not trust.verify
    assert str(config.reference("ubi9:9.4")) == "registry.access.redhat.com/ubi9:9.4"
    assert str(config.reference("ubi9")) == "registry.access.redhat.com/ubi9:latest"
    assert str(config.reference("ubi9/x")) == "docker.io/ubi9/x:latest"
    assert str(config.reference("example.com/ubi9")) == "example.com/ubi9:latest"
    digest = "@sha256:" + "0" * 64
    assert str(config.reference("ubi9" + digest)) == "registry.access.redhat.com/ubi9" + digest


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "registries: []",
        "registries: {a: []}",
        "registries: {a: {insecur: true}}",
        "registries: {a: {insecure: 'yes'}}",
        "registries: {a: {mirrors: b}}",
        "registries: {a: {mirrors: ['https://b']}}",
        "aliases: {a: 5}",
        "aliases: {a: 'NOT A NAME'}",
        "a: [",
        "!!python/object/apply:os.system ['true']",
    ],
)
def test_wrong_files(tmp_path: Path, text: str) -> None:
    """What isn't understood is an error, and nothing in YAML is executed."""
    with pytest.raises(UsageError):
        load(tmp_path, text)


def test_empty_file(tmp_path: Path) -> None:
    """A file of comments says nothing."""
    assert load(tmp_path, "# nothing yet\n").registries == {}


@pytest.mark.parametrize("host", ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000"])
def test_loopback(host: str) -> None:
    """Plain http is fine on loopback, and tried first; certificates are still verified there."""
    config = RegistryConfig()
    assert config.trust(host).plain_http
    assert config.trust(host).verify
    (endpoint,) = config.endpoints(parse_reference(f"{host}/app"))
    assert endpoint.bases == (f"http://{host}", f"https://{host}")


@pytest.mark.parametrize("host", ["example.com", "10.0.0.1:5000", "localhost.example.com", "127.example.com"])
def test_others_need_tls(host: str) -> None:
    """Nobody else may do without TLS."""
    assert not RegistryConfig().trust(host).plain_http
    assert RegistryConfig().trust(host).verify


def test_insecure_by_option() -> None:
    """``--tls-verify=false`` marks one registry, and keeps what is known of it."""
    config = RegistryConfig.load({"HOME": "/nonexistent"}, insecure=["example.com"])
    assert config.is_insecure("example.com")
    assert config.is_insecure("example.com:8443")
    assert not config.is_insecure("other.com")
    hub = RegistryConfig({"docker.io": RegistryEntry(insecure=True)})
    assert hub.is_insecure("registry-1.docker.io")


def test_certificates(tmp_path: Path) -> None:
    """certs.d directories of Docker, podman and our own are all used; a loopback host with one is asked by TLS only."""
    places = [
        tmp_path / f".config/{owner}/certs.d/localhost:5000"
        for owner in ("layersmith", "containers", "docker")
    ]
    for place in places:
        place.mkdir(parents=True)
        (place / "ca.crt").write_text("CA")
    (places[2] / "client.cert").write_text("cert")
    (places[2] / "client.key").write_text("key")
    config = load(tmp_path)
    trust = config.trust("localhost:5000")
    assert trust.ca_files == tuple(place / "ca.crt" for place in places)
    assert trust.client_cert == (places[2] / "client.cert", places[2] / "client.key")
    (endpoint,) = config.endpoints(parse_reference("localhost:5000/app"))
    assert endpoint.bases == ("https://localhost:5000",)
    assert config.trust("localhost:5001").ca_files == ()
    (places[2] / "client.key").unlink()
    with pytest.raises(TransportError, match="no key"):
        config.trust("localhost:5000")
