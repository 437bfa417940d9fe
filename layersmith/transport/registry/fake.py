"""A registry in this process, for tests: the distribution spec over real HTTP on loopback, with faults on demand.

In: blobs and manifests in dictionaries. Out: a server whose every answer a `Fault` can spoil.

    with FakeRegistry() as fake:
        fake.add_blob("app", b"...")
        fake.fail(Cut(1000), path="/blobs/", times=2)
        ... f"{fake.host}/app:latest" ...
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import parse_qs, urlsplit

from layersmith.dataclass import dataclass, field
from layersmith.oci.digest import digest_of
from layersmith.oci.mediatype import OCI_MANIFEST
from layersmith.transport.registry.faults import Answer, Fault


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that came: ``path`` with its query; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]


@dataclass(slots=True)
class _Rule:
    fault: Fault
    method: str
    path: str
    times: int


@dataclass(slots=True)
class FakeRegistry:
    """See the module. ``basic`` or ``bearer`` is the (user, password) that is asked for; ``anonymous_pull`` lets anyone
    have a bearer token for pulling. ``token_life`` is how many requests a token is good for."""

    basic: tuple[str, str] | None = None
    bearer: tuple[str, str] | None = None
    anonymous_pull: bool = False
    token_life: int = 1 << 30
    ranges: bool = True
    blobs: dict[tuple[str, str], bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    tokens: dict[str, tuple[int, str]] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    _rules: list[_Rule] = field(default_factory=list)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _server: ThreadingHTTPServer | None = None

    @property
    def host(self) -> str:
        """``127.0.0.1:port``."""
        assert self._server is not None
        return f"127.0.0.1:{self._server.server_address[1]}"

    def fail(self, fault: Fault, *, path: str, method: str = "", times: int = 1) -> None:
        """Spoil the next ``times`` answers to requests whose path matches the regular expression ``path``."""
        self._rules.append(_Rule(fault, method, path, times))

    def add_blob(self, repository: str, data: bytes) -> str:
        """Put a blob there; its digest."""
        digest = digest_of(data)
        self.blobs[repository, digest] = data
        return digest

    def add_manifest(self, repository: str, data: bytes, *tags: str, media_type: str = OCI_MANIFEST) -> str:
        """Put a manifest there under its digest and ``tags``; its digest."""
        digest = digest_of(data)
        for which in (digest, *tags):
            self.manifests[repository, which] = (media_type, data)
        return digest

    def requests(self, method: str, path: str) -> list[Seen]:
        """Those that came whose path matches the regular expression ``path``."""
        return [seen for seen in self.seen if seen.method == method and re.search(path, seen.path)]

    def __enter__(self) -> FakeRegistry:
        fake = self

        class Handler(_Handler):
            registry = fake

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()

    def fault_for(self, method: str, path: str) -> Fault:
        """The fault for a request, and one time less for it."""
        with self._lock:
            for rule in self._rules:
                if rule.times > 0 and rule.method in ("", method) and re.search(rule.path, path):
                    rule.times -= 1
                    return rule.fault
        return Fault()

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """The right answer to a request."""
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/token":
            return self._token(parse_qs(parts.query).get("scope", []), headers)
        with self._lock:
            if refusal := self._refusal(method, parts.path, headers):
                return refusal
            if parts.path == "/v2/":
                return Answer(200, {}, b"{}")
            if match := re.fullmatch(r"/v2/(.+)/manifests/([^/]+)", parts.path):
                return self._manifest(method, match[1], match[2], headers, body)
            if match := re.fullmatch(r"/v2/(.+)/blobs/(sha256:[0-9a-f]+)", parts.path):
                return self._blob(match[1], match[2], headers)
            if match := re.fullmatch(r"/v2/(.+)/blobs/uploads/([^/]*)", parts.path):
                return self._upload(method, match[1], match[2], query, headers, body)
            if match := re.fullmatch(r"/v2/(.+)/tags/list", parts.path):
                return self._tags(match[1], query)
        return _error(404, "UNSUPPORTED")

    def _manifest(
        self, method: str, name: str, which: str, headers: Mapping[str, str], body: bytes
    ) -> Answer:
        if method == "PUT":
            digest = digest_of(body)
            for key in {digest, which}:
                self.manifests[name, key] = (headers.get("content-type", ""), body)
            return Answer(
                201, {"Location": f"/v2/{name}/manifests/{digest}", "Docker-Content-Digest": digest}
            )
        if (name, which) not in self.manifests:
            return _error(404, "MANIFEST_UNKNOWN")
        media_type, data = self.manifests[name, which]
        return Answer(200, {"Content-Type": media_type, "Docker-Content-Digest": digest_of(data)}, data)

    def _blob(self, name: str, digest: str, headers: Mapping[str, str]) -> Answer:
        data = self.blobs.get((name, digest))
        if data is None:
            return _error(404, "BLOB_UNKNOWN")
        match = re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))
        if match and self.ranges:
            start = int(match[1])
            where = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
            return Answer(206, where, data[start:])
        return Answer(200, {"Docker-Content-Digest": digest}, data)

    def _upload(
        self,
        method: str,
        name: str,
        session: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes,
    ) -> Answer:
        if method == "POST":
            source = (query.get("from", ""), query.get("mount", ""))
            if source in self.blobs:
                self.blobs[name, source[1]] = self.blobs[source]
                return Answer(201, {"Location": f"/v2/{name}/blobs/{source[1]}"})
            session = secrets.token_hex(8)
            self.uploads[session] = bytearray()
            return Answer(202, {"Location": f"/v2/{name}/blobs/uploads/{session}?state=1"})
        if session not in self.uploads:
            return _error(404, "BLOB_UPLOAD_UNKNOWN")
        data = self.uploads[session]
        where = {"Location": f"/v2/{name}/blobs/uploads/{session}?state={len(data)}"}
        if method == "GET":
            return Answer(204, {**where, "Range": f"0-{max(0, len(data) - 1)}"})
        expected = headers.get("content-range")
        if expected and not expected.startswith(f"{len(data)}-"):
            return Answer(416, {**where, "Range": f"0-{max(0, len(data) - 1)}"})
        data += body
        if method == "PATCH":
            return Answer(202, {**where, "Range": f"0-{max(0, len(data) - 1)}"})
        del self.uploads[session]
        if digest_of(bytes(data)) != query.get("digest"):
            return _error(400, "DIGEST_INVALID")
        self.blobs[name, query["digest"]] = bytes(data)
        return Answer(201, {"Location": f"/v2/{name}/blobs/{query['digest']}"})

    def _tags(self, name: str, query: Mapping[str, str]) -> Answer:
        tags = sorted(
            which for repository, which in self.manifests if repository == name and ":" not in which
        )
        page = [tag for tag in tags if tag > query.get("last", "")][:2]
        more = bool(page) and page[-1] != tags[-1]
        link = {"Link": f'</v2/{name}/tags/list?last={page[-1]}>; rel="next"'} if more else {}
        return Answer(200, link, json.dumps({"name": name, "tags": page}).encode())

    def _refusal(self, method: str, path: str, headers: Mapping[str, str]) -> Answer | None:
        given = headers.get("authorization", "")
        if self.basic and given != _basic(self.basic):
            return Answer(401, {"WWW-Authenticate": 'Basic realm="fake"'}, b"")
        if not self.bearer:
            return None
        token = given.removeprefix("Bearer ")
        left, scope = self.tokens.get(token, (0, ""))
        repository = re.match(r"/v2/(.+)/(?:manifests|blobs|tags)/", path)
        action = "pull" if method in ("GET", "HEAD") else "push"
        allowed = repository is None or re.search(rf"repository:{repository[1]}:\S*{action}", scope)
        if left > 0 and allowed:
            self.tokens[token] = (left - 1, scope)
            return None
        challenge = f'Bearer realm="http://{self.host}/token",service="fake, registry"'
        if repository:
            challenge += f',scope="repository:{repository[1]}:{action}"'
        return Answer(401, {"WWW-Authenticate": challenge}, b'{"errors":[{"code":"UNAUTHORIZED"}]}')

    def _token(self, scopes: list[str], headers: Mapping[str, str]) -> Answer:
        known = headers.get("authorization", "") == _basic(self.bearer or ("", ""))
        pulling = self.anonymous_pull and not any("push" in scope for scope in scopes)
        if not known and ("authorization" in headers or not pulling):
            return _error(401, "DENIED")
        token = secrets.token_hex(16)
        self.tokens[token] = (self.token_life, " ".join(scopes))
        return Answer(200, {}, json.dumps({"token": token, "expires_in": 300}).encode())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    registry: FakeRegistry

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def _any(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.registry.seen.append(Seen(self.command, self.path, headers))
        fault = self.registry.fault_for(self.command, self.path)
        length = int(headers.get("content-length", "0"))
        if fault.swallow is not None:
            body = self.rfile.read(min(length, fault.swallow))
            session = urlsplit(self.path).path.rpartition("/")[2]
            self.registry.uploads.get(session, bytearray()).extend(body)
            self.close_connection = True
            return
        body = self.rfile.read(length)
        self._send(fault.spoil(self.registry.answer(self.command, self.path, headers, body)))

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        body = answer.body if answer.cut is None else answer.body[: answer.cut]
        piece = max(1, len(body) // 10) if answer.drip else max(1, len(body))
        for start in range(0, len(body), piece):
            self.wfile.write(body[start : start + piece])
            time.sleep(answer.drip)
        self.close_connection = self.close_connection or answer.cut is not None

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _any

    def log_message(self, format: str, *args: object) -> None:
        pass


def _basic(pair: tuple[str, str]) -> str:
    return "Basic " + base64.b64encode(":".join(pair).encode()).decode()


def _error(status: int, code: str) -> Answer:
    return Answer(status, {}, json.dumps({"errors": [{"code": code, "message": code.lower()}]}).encode())
