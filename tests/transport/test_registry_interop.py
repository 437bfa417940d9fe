"""Registries in earnest: docker-registry open, with passwords, with tokens, with TLS and behind a faulty line; and skopeo."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import random
import shutil
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from faulty_line import FaultyLine
from registries import HTPASSWD, PASSWORD, USER, served

from layersmith.dataclass import replace
from layersmith.errors import TransportError
from layersmith.oci import mediatype
from layersmith.oci.config import ImageConfig
from layersmith.oci.descriptor import Descriptor
from layersmith.oci.digest import DiffID, digest_of
from layersmith.oci.manifest import Index, Manifest
from layersmith.oci.platform import Platform
from layersmith.oci.reference import Reference, parse_reference
from layersmith.store import Store
from layersmith.transport.auth import Credentials, Keychain
from layersmith.transport.http import Client
from layersmith.transport.patience import Patience
from layersmith.transport.registry import Registry
from layersmith.transport.registry_config import RegistryConfig

pytestmark = [pytest.mark.interop, pytest.mark.needs_docker_registry]

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
QUICK = Patience(connect=5, read=10, attempts=8, first_wait=0.02)


# What is needed


@pytest.fixture(scope="module")
def open_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(tmp_path_factory.mktemp("open")) as host:
        yield host


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        yield opened


def registry(
    credentials: Credentials | None = None,
    *,
    certs: Path | None = None,
    environ: dict[str, str] | None = None,
) -> Registry:
    config = RegistryConfig(certs_dirs=(certs,) if certs else ())
    client = Client(config.trust, patience=QUICK, environ={})
    keychain = Keychain(environ or {"REGISTRY_AUTH_FILE": "/nonexistent/auth.json"}, override=credentials)
    return Registry(config, keychain, client=client)


def layer_of(size: int, seed: int = 0) -> bytes:
    """A tar with one file of ``size`` random bytes."""
    data = random.Random(seed).randbytes(size)
    with io.BytesIO() as buffer:
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            entry = tarfile.TarInfo(f"file{seed}")
            entry.size = size
            archive.addfile(entry, io.BytesIO(data))
        return buffer.getvalue()


def add_image(
    store: Store, *sizes: int, platform: Platform = AMD64, compression: str = "gzip", docker: bool = False
) -> Descriptor:
    """An image with a layer of each size in the store; its descriptor."""
    tars = [layer_of(size, seed) for seed, size in enumerate(sizes)]
    layers = []
    for tar in tars:
        blob = tar
        if compression == "gzip":
            blob = gzip.compress(tar, 1, mtime=0)
        elif compression == "zstd":
            import zstandard

            blob = zstandard.compress(tar)
        media_type = mediatype.layer_type(compression, docker=docker)
        layers.append(Descriptor(media_type, store.blobs.put(blob), len(blob)))
    config = ImageConfig(platform, diff_ids=tuple(DiffID(digest_of(tar)) for tar in tars)).to_json()
    store.blobs.put(config)
    manifest = Manifest(
        Descriptor.of(mediatype.DOCKER_CONFIG if docker else mediatype.OCI_CONFIG, config),
        tuple(layers),
        media_type=mediatype.DOCKER_MANIFEST if docker else mediatype.OCI_MANIFEST,
    )
    store.blobs.put(manifest.to_json())
    return Descriptor.of(manifest.media_type, manifest.to_json())


def named(host: str, rest: str) -> Reference:
    return parse_reference(f"{host}/{rest}")


def check_round_trip(used: Registry, host: str, store: Store, tmp_path: Path) -> None:
    """Push, pull by tag and by digest into empty stores: the same image, whole."""
    image = add_image(store, 300_000, 20)
    used.push(store, image, named(host, "team/app:1"))
    for number, which in enumerate((":1", f"@{image.digest}")):
        with Store.open(tmp_path / f"second{number}") as second:
            assert used.pull(second, named(host, f"team/app{which}"), platform=AMD64).digest == image.digest
            assert set(second.blobs.list()) == set(store.blobs.list())
            assert all(second.blobs.verify(digest) for digest in second.blobs.list())


# Open


def test_round_trip(open_registry: str, store: Store, tmp_path: Path) -> None:
    """An image that was pushed is pulled by tag and by digest."""
    with registry() as used:
        check_round_trip(used, open_registry, store, tmp_path)
        assert list(used.tags(named(open_registry, "team/app"))) == ["1"]
        assert used.exists(named(open_registry, "team/app:1"))
        assert not used.exists(named(open_registry, "team/app:2"))
        assert not used.exists(named(open_registry, "nobody/app"))


def test_empty_and_large_blobs(open_registry: str, store: Store, tmp_path: Path) -> None:
    """Blobs of no byte, and of more than one block and chunk, go both ways."""
    image = add_image(store, 0, 5_000_000, compression="none")
    with registry() as used, Store.open(tmp_path / "second") as second:
        used.push(store, image, named(open_registry, "sizes"))
        used.pull(second, named(open_registry, "sizes"), platform=AMD64)
        assert set(second.blobs.list()) == set(store.blobs.list())


def test_chunks(open_registry: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload in chunks, as after a 413, is one blob in the end."""
    from layersmith.transport.registry import upload

    monkeypatch.setattr(upload, "CHUNK", 300_000)
    image = add_image(store, 1_000_000)
    plain = upload._Upload.__init__

    def chunked(self: upload._Upload, *args: object) -> None:
        plain(self, *args)  # type: ignore[arg-type]
        self._chunk = upload.CHUNK

    monkeypatch.setattr(upload._Upload, "__init__", chunked)
    with registry() as used, Store.open(tmp_path / "second") as second:
        used.push(store, image, named(open_registry, "chunks"))
        used.pull(second, named(open_registry, "chunks"), platform=AMD64)
        assert set(second.blobs.list()) == set(store.blobs.list())


def test_mount_between_repositories(open_registry: str, store: Store) -> None:
    """Layers of a named base in the same registry are mounted, and none is uploaded."""
    image = add_image(store, 200_000)
    with registry() as used:
        used.push(store, image, named(open_registry, "base:1"))
        store.refs.set(f"{open_registry}/base:1", image)
        layer = Manifest.from_json(store.blobs.read(image)).layers[0]
        path = store.blobs.path(layer.digest)
        path.rename(path.with_suffix(".away"))
        used.push(store, image, named(open_registry, "derived:1"))
        path.with_suffix(".away").rename(path)
        assert used.exists(named(open_registry, "derived:1"))


def test_index(open_registry: str, store: Store, tmp_path: Path) -> None:
    """An index is pushed with all its images, and one platform is pulled from it."""
    amd, arm = add_image(store, 1000), add_image(store, 2000, platform=ARM64)
    index = Index((replace(amd, platform=AMD64), replace(arm, platform=ARM64)))
    store.blobs.put(index.to_json())
    descriptor = Descriptor.of(index.media_type, index.to_json())
    with registry() as used, Store.open(tmp_path / "second") as second:
        used.push(store, descriptor, named(open_registry, "multi:1"))
        assert used.resolve(named(open_registry, "multi:1")) == descriptor
        assert used.pull(second, named(open_registry, "multi:1"), platform=ARM64).digest == arm.digest
        assert len(list(second.blobs.list())) == 4


# skopeo


@pytest.mark.needs_skopeo
@pytest.mark.parametrize(
    ("compression", "docker"),
    [("gzip", False), ("zstd", False), ("none", False), ("gzip", True), ("none", True)],
)
def test_skopeo_reads_what_we_push(
    open_registry: str, store: Store, tmp_path: Path, compression: str, docker: bool
) -> None:
    """skopeo copies our image, and the copy has our digest."""
    name = f"ours/{compression}-{docker}".lower()
    image = add_image(store, 100_000, 10, compression=compression, docker=docker)
    with registry() as used:
        used.push(store, image, named(open_registry, name))
    source = f"docker://{open_registry}/{name}"
    skopeo("copy", "--src-tls-verify=false", "--preserve-digests", source, f"dir:{tmp_path}/copy")
    assert digest_of((tmp_path / "copy/manifest.json").read_bytes()) == image.digest
    inspected = json.loads(skopeo("inspect", "--tls-verify=false", source))
    assert inspected["Digest"] == image.digest
    assert inspected["Architecture"] == "amd64"


@pytest.mark.needs_skopeo
@pytest.mark.parametrize("format_", ["oci", "v2s2"])
def test_we_read_what_skopeo_pushes(open_registry: str, store: Store, tmp_path: Path, format_: str) -> None:
    """What skopeo converted and pushed is pulled whole."""
    image = add_image(store, 100_000, 10)
    store.refs.set("theirs:1", image)
    target = f"{open_registry}/theirs/{format_}"
    skopeo(
        "copy",
        "--dest-tls-verify=false",
        "--format",
        format_,
        f"oci:{store.root}:theirs:1",
        f"docker://{target}",
    )
    with registry() as used, Store.open(tmp_path / "second") as second:
        found = used.pull(second, parse_reference(target), platform=AMD64)
        expected = mediatype.OCI_MANIFEST if format_ == "oci" else mediatype.DOCKER_MANIFEST
        assert found.media_type == expected
        manifest = Manifest.from_json(second.blobs.read(found))
        assert all(second.blobs.verify(blob.digest) for blob in (manifest.config, *manifest.layers))


def skopeo(*arguments: str) -> str:
    done = subprocess.run(["skopeo", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# Passwords


@pytest.fixture(scope="module")
def closed_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("basic")
    (directory / "htpasswd").write_text(HTPASSWD)
    with served(directory, auth={"htpasswd": {"realm": "test", "path": str(directory / "htpasswd")}}) as host:
        yield host


def test_basic_authentication(closed_registry: str, store: Store, tmp_path: Path) -> None:
    """With the password everything works; without, nothing does, and the error says what to do."""
    with registry(Credentials(USER, PASSWORD)) as used:
        check_round_trip(used, closed_registry, store, tmp_path)
        used.check_login(closed_registry, Credentials(USER, PASSWORD))
        with pytest.raises(TransportError, match="refused the login"):
            used.check_login(closed_registry, Credentials(USER, "wr0ng"))
    for credentials in (None, Credentials(USER, "wr0ng")):
        with registry(credentials) as used, pytest.raises(TransportError, match="denied access"):
            used.resolve(named(closed_registry, "team/app:1"))


@pytest.mark.needs_skopeo
def test_login_is_shared_with_skopeo(closed_registry: str, store: Store, tmp_path: Path) -> None:
    """What `skopeo login` wrote is used by us, and what we wrote by skopeo."""
    with registry(Credentials(USER, PASSWORD)) as used:
        used.push(store, add_image(store, 1000), named(closed_registry, "team/listed:1"))
    theirs, ours = str(tmp_path / "theirs.json"), str(tmp_path / "ours.json")
    skopeo("login", "--tls-verify=false", "--authfile", theirs, "-u", USER, "-p", PASSWORD, closed_registry)
    assert Keychain({"REGISTRY_AUTH_FILE": theirs}).get(closed_registry) == Credentials(USER, PASSWORD)
    Keychain({"REGISTRY_AUTH_FILE": ours}).store(closed_registry, Credentials(USER, PASSWORD))
    assert skopeo("login", "--authfile", ours, "--get-login", closed_registry).strip() == USER
    skopeo("list-tags", "--tls-verify=false", "--authfile", ours, f"docker://{closed_registry}/team/listed")


# Tokens


class TokenServer:
    """Gives docker-registry's bearer tokens (JWT, RS256) to those who know the password; anyone may pull ``public``."""

    def __init__(self, directory: Path) -> None:
        self.key, self.certificate = directory / "token.key", directory / "token.crt"
        openssl(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=token",
            "-keyout", str(self.key), "-out", str(self.certificate),
        )  # fmt: skip
        self.asked: list[list[str]] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.realm = f"http://127.0.0.1:{self.server.server_address[1]}/token"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        scopes = parse_qs(urlsplit(request.path).query).get("scope", [])
        self.asked.append(scopes)
        wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        given = request.headers.get("Authorization")
        if given not in (None, wanted):
            request.send_response(401)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            granted = actions.split(",") if given else ["pull"] if name.startswith("public") else []
            access.append({"type": kind, "name": name, "actions": granted})
        body = json.dumps({"token": self.sign(access), "expires_in": 60}).encode()
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def sign(self, access: list[dict[str, object]]) -> str:
        pem = self.certificate.read_text()
        der = "".join(pem.split("-----")[2].split())
        now = int(time.time())
        claims = {
            "iss": "test", "aud": "registry", "sub": USER, "jti": os.urandom(8).hex(),
            "exp": now + 60, "nbf": now - 5, "iat": now, "access": access,
        }  # fmt: skip
        parts = [{"typ": "JWT", "alg": "RS256", "x5c": [der]}, claims]
        signed = ".".join(unpadded(json.dumps(part).encode()) for part in parts)
        signature = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", str(self.key)],
            input=signed.encode(), capture_output=True, check=True,
        ).stdout  # fmt: skip
        return f"{signed}.{unpadded(signature)}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def unpadded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def openssl(*arguments: str) -> None:
    if not shutil.which("openssl"):
        pytest.skip("needs openssl, which is not installed")
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_token_authentication(tmp_path: Path, store: Store) -> None:
    """Bearer tokens: for push, pull and mounting with the password; only for pulling what is public without."""
    with closing(TokenServer(tmp_path)) as tokens:
        token = {
            "realm": tokens.realm, "service": "registry", "issuer": "test", "rootcertbundle": str(tokens.certificate),
        }  # fmt: skip
        with served(tmp_path / "registry", auth={"token": token}) as host:
            with registry(Credentials(USER, PASSWORD)) as used:
                check_round_trip(used, host, store, tmp_path)
                assert len(tokens.asked) <= 4
                image = add_image(store, 5000)
                used.push(store, image, named(host, "public/app"))
                store.refs.set(f"{host}/public/app", image)
                used.push(store, image, named(host, "private/app"))
                assert any(len(scopes) == 2 for scopes in tokens.asked)
            with registry() as anonymous, Store.open(tmp_path / "third") as third:
                assert anonymous.pull(third, named(host, "public/app"), platform=AMD64).digest == image.digest
                for refused in (
                    lambda: anonymous.resolve(named(host, "private/app")),
                    lambda: anonymous.push(third, image, named(host, "public/other")),
                ):
                    with pytest.raises(TransportError, match="denied access") as raised:
                        refused()
                    assert "layersmith login" in raised.value.hint
            with (
                registry(Credentials(USER, "wr0ng")) as wrong,
                pytest.raises(TransportError, match="no token"),
            ):
                wrong.resolve(named(host, "public/app"))


# TLS


def make_certificates(directory: Path) -> Path:
    """A private CA, a server's and a client's certificate by it, in ``directory``."""
    ca, ca_key = directory / "ca.crt", directory / "ca.key"
    openssl(
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=private CA",
        "-keyout", str(ca_key), "-out", str(ca),
    )  # fmt: skip
    for name in ("server", "client"):
        request, extra = directory / f"{name}.csr", directory / f"{name}.ext"
        extra.write_text("subjectAltName=IP:127.0.0.1,DNS:registry.example\n")
        openssl(
            "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}",
            "-keyout", str(directory / f"{name}.key"), "-out", str(request),
        )  # fmt: skip
        openssl(
            "x509", "-req", "-in", str(request), "-CA", str(ca), "-CAkey", str(ca_key), "-days", "2",
            "-extfile", str(extra), "-out", str(directory / f"{name}.crt"),
        )  # fmt: skip
    return directory


@pytest.mark.parametrize("with_client_certificate", [False, True])
def test_tls_with_a_private_ca(store: Store, tmp_path: Path, with_client_certificate: bool) -> None:
    """With the CA in certs.d everything works; without it, or without the client's certificate, a clear error."""
    pki = make_certificates(tmp_path)
    tls: dict[str, object] = {"certificate": str(pki / "server.crt"), "key": str(pki / "server.key")}
    if with_client_certificate:
        tls["clientcas"] = [str(pki / "ca.crt")]
    with served(tmp_path / "registry", http={"tls": tls}) as host:
        certs = tmp_path / "certs.d" / host
        certs.mkdir(parents=True)
        (certs / "ca.crt").write_bytes((pki / "ca.crt").read_bytes())
        if with_client_certificate:
            with registry(certs=certs.parent) as used, pytest.raises(TransportError):
                used.resolve(named(host, "team/app"))
            (certs / "client.cert").write_bytes((pki / "client.crt").read_bytes())
            (certs / "client.key").write_bytes((pki / "client.key").read_bytes())
        with registry(certs=certs.parent) as used:
            check_round_trip(used, host, store, tmp_path)
        with registry(certs=tmp_path / "elsewhere") as used:
            with pytest.raises(TransportError) as raised:
                used.resolve(named(host, "team/app:1"))
        assert "certificate" in raised.value.message or "400" in raised.value.message


def test_insecure_registry(store: Store, tmp_path: Path) -> None:
    """A registry that is marked insecure may have any certificate."""
    pki = make_certificates(tmp_path)
    tls = {"certificate": str(pki / "server.crt"), "key": str(pki / "server.key")}
    with served(tmp_path / "registry", http={"tls": tls}) as host:
        config = RegistryConfig.load({"HOME": str(tmp_path)}, insecure=[host])
        client = Client(config.trust, patience=QUICK, environ={})
        with Registry(config, Keychain({"REGISTRY_AUTH_FILE": "/nonexistent"}), client=client) as used:
            check_round_trip(used, host, store, tmp_path)


class TunnelProxy:
    """A proxy that knows CONNECT with a password, and leads every tunnel to one target."""

    def __init__(self, target: str) -> None:
        self.asked: list[tuple[str, str | None]] = []
        owner, (host, port) = self, target.split(":")

        class Handler(BaseHTTPRequestHandler):
            def do_CONNECT(self) -> None:
                owner.asked.append((self.path, self.headers.get("Proxy-Authorization")))
                with socket.create_connection((host, int(port))) as far:
                    self.send_response(200)
                    self.end_headers()
                    back = threading.Thread(target=owner.copy, args=(far, self.connection), daemon=True)
                    back.start()
                    owner.copy(self.connection, far)
                    back.join()
                self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @staticmethod
    def copy(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def test_tls_through_a_proxy(store: Store, tmp_path: Path) -> None:
    """TLS goes through the proxy's tunnel, and the certificate of the registry is verified at the other end."""
    pki = make_certificates(tmp_path)
    tls = {"certificate": str(pki / "server.crt"), "key": str(pki / "server.key")}
    with served(tmp_path / "registry", http={"tls": tls}) as host, closing(TunnelProxy(host)) as proxy:
        certs = tmp_path / "certs.d/registry.example"
        certs.mkdir(parents=True)
        (certs / "ca.crt").write_bytes((pki / "ca.crt").read_bytes())
        environ = {"HTTPS_PROXY": f"http://me:s3cret@{proxy.host}"}
        image = add_image(store, 200_000)
        for directory in (certs.parent, tmp_path / "elsewhere"):
            config = RegistryConfig(certs_dirs=(directory,))
            client = Client(config.trust, patience=QUICK, environ=environ)
            with Registry(config, Keychain({"REGISTRY_AUTH_FILE": "/nonexistent"}), client=client) as used:
                if directory == certs.parent:
                    used.push(store, image, parse_reference("registry.example/app:1"))
                    assert used.exists(parse_reference("registry.example/app:1"))
                else:
                    with pytest.raises(TransportError, match="certificate is not trusted"):
                        used.exists(parse_reference("registry.example/app:1"))
        wanted = "Basic " + base64.b64encode(b"me:s3cret").decode()
        assert set(proxy.asked) == {("registry.example:443", wanted)}


# A faulty line


@pytest.mark.parametrize("seed", range(4))
def test_pull_by_a_line_that_keeps_breaking(
    open_registry: str, store: Store, tmp_path: Path, seed: int
) -> None:
    """Through a line that loses every connection after some 200 KB, an image of 3 MB arrives whole."""
    image = add_image(store, 3_000_000, 100_000, 10)
    with registry() as used, Store.open(tmp_path / "second") as second:
        used.push(store, image, named(open_registry, "lossy:1"))
        with closing(FaultyLine(open_registry, seed=seed)) as line:
            assert used.pull(second, named(line.host, "lossy:1"), platform=AMD64).digest == image.digest
        assert set(second.blobs.list()) == set(store.blobs.list())
        assert all(second.blobs.verify(digest) for digest in second.blobs.list())
        assert line.lost > 5


@pytest.mark.parametrize("seed", range(4))
def test_push_by_a_line_that_keeps_breaking(
    open_registry: str, store: Store, tmp_path: Path, seed: int
) -> None:
    """Through a line that loses connections the registry gets the right image.

    docker-registry 2.8 forgets an upload whose connection broke (it cancels it when asked), so each try begins anew, and
    the line must last long enough for a whole blob now and then.
    """
    image = add_image(store, 500_000, 400_000, 300_000, 300_000)
    with registry() as used, Store.open(tmp_path / "second") as second:
        with closing(FaultyLine(open_registry, seed=seed, least=100_000, most=3_000_000)) as line:
            used.push(store, image, named(line.host, f"breaking/{seed}:1"))
        assert (
            used.pull(second, named(open_registry, f"breaking/{seed}:1"), platform=AMD64).digest
            == image.digest
        )
        assert set(second.blobs.list()) == set(store.blobs.list())
        assert line.lost > 0


def test_line_that_is_hopeless(open_registry: str, store: Store, tmp_path: Path) -> None:
    """Through a line that lets nothing through, there is an error and nothing in the store."""
    image = add_image(store, 1_000_000)
    with registry() as used:
        used.push(store, image, named(open_registry, "hopeless:1"))
    with closing(FaultyLine(open_registry, seed=1, least=2000, most=3000)) as line:
        with registry() as used, Store.open(tmp_path / "second") as second:
            with pytest.raises(TransportError):
                used.pull(second, named(line.host, "hopeless:1"), platform=AMD64)
            found = set(second.blobs.list())
            assert found < set(store.blobs.list())
            assert all(second.blobs.verify(digest) for digest in found)
