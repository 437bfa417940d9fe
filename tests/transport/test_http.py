"""HTTP: retries, redirects, trust, resumed downloads and fetched files, against a server with faults."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layersmith.errors import Cancelled, NotFoundError, TransportError
from layersmith.progress import Event, Notice
from layersmith.transport.download import NotResumable, download
from layersmith.transport.fetch import Validators, fetch
from layersmith.transport.http import Client
from layersmith.transport.parallel import run_all
from layersmith.transport.patience import Patience, retry_after
from layersmith.transport.registry.fake import FakeRegistry
from layersmith.transport.registry.faults import (
    Append,
    Cut,
    CutRequest,
    Drip,
    Garble,
    Header,
    Status,
    Truncate,
)
from layersmith.transport.tls import Trust
from layersmith.transport.urls import origin, proxy_for, redacted

DATA = bytes(range(256)) * 2000
QUICK = Patience(connect=2, read=5, attempts=4, first_wait=0.01)


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(lambda host: Trust(plain_http=True), patience=QUICK, environ={}) as quick:
        yield quick


def blob_url(fake: FakeRegistry, data: bytes = DATA) -> str:
    return f"http://{fake.host}/v2/app/blobs/{fake.add_blob('app', data)}"


def got(client: Client, url: str, *, immutable: bool = True, size: int | None = len(DATA)) -> bytes:
    body = download(
        lambda headers: client.request("GET", url, headers=headers),
        size=size,
        immutable=immutable,
        patience=QUICK,
    )
    return b"".join(body)


class Listener:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)


# Requests


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_passing_status_is_retried(fake: FakeRegistry, client: Client, status: int) -> None:
    """A status that may pass is asked again until it has passed."""
    url = blob_url(fake)
    fake.fail(Status(status), path="/blobs/", times=3)
    assert client.request("GET", url).status == 200
    assert len(fake.requests("GET", "/blobs/")) == 4


def test_lasting_status_is_the_answer(fake: FakeRegistry, client: Client) -> None:
    """After as many attempts as there is patience for, the last answer is given as it is."""
    url = blob_url(fake)
    fake.fail(Status(503), path="/blobs/", times=100)
    with client.request("GET", url) as response:
        assert response.status == 503
    assert len(fake.requests("GET", "/blobs/")) == QUICK.attempts


@pytest.mark.parametrize("status", [400, 401, 403, 404, 501])
def test_final_status_is_not_retried(fake: FakeRegistry, client: Client, status: int) -> None:
    """What asking again can't change is asked once."""
    url = blob_url(fake)
    fake.fail(Status(status), path="/blobs/")
    with client.request("GET", url) as response:
        assert response.status == status
    assert len(fake.requests("GET", "/blobs/")) == 1


def test_retry_after_is_honoured(fake: FakeRegistry) -> None:
    """No request comes before the time that the server asked for, and a person is told of a long wait."""
    url = blob_url(fake)
    fake.fail(Status(429, {"Retry-After": "2"}), path="/blobs/")
    listener = Listener()
    with Client(lambda host: Trust(plain_http=True), patience=QUICK, progress=listener, environ={}) as client:
        begun = time.monotonic()
        client.request("GET", url).close()
    assert 2 <= time.monotonic() - begun < 4
    assert [event for event in listener.events if isinstance(event, Notice) and "429" in event.text]


def test_too_long_a_wait_is_an_answer(fake: FakeRegistry, client: Client) -> None:
    """A server that asks to come back tomorrow is not waited for."""
    url = blob_url(fake)
    fake.fail(Status(429, {"Retry-After": "86400"}), path="/blobs/")
    with client.request("GET", url) as response:
        assert response.status == 429


def test_retry_after_forms() -> None:
    """Retry-After is seconds or a date; a date in the past is now, and nonsense is nothing."""
    assert retry_after("7", 0) == 7
    assert retry_after("Thu, 01 Jan 1970 00:01:40 GMT", 60) == 40
    assert retry_after("Thu, 01 Jan 1970 00:01:40 GMT", 600) == 0
    assert retry_after("soon", 0) is None
    assert retry_after("-5", 0) is None


def test_dropped_connection_is_retried(fake: FakeRegistry, client: Client) -> None:
    """A connection that closes before any answer is opened anew."""
    url = blob_url(fake)
    fake.fail(CutRequest(0), path="/blobs/", times=2)
    assert client.request("GET", url).read(1 << 20) == DATA


def test_stop_ends_a_wait(fake: FakeRegistry) -> None:
    """Setting ``stop`` ends a client that waits between attempts."""
    url = blob_url(fake)
    fake.fail(Status(503), path="/blobs/", times=100)
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    begun = time.monotonic()
    with Client(lambda host: Trust(plain_http=True), patience=Patience(first_wait=30), environ={}) as client:
        with pytest.raises(Cancelled):
            client.request("GET", url, stop=stop)
    assert time.monotonic() - begun < 5


def test_answer_beyond_its_limit(fake: FakeRegistry, client: Client) -> None:
    """A body longer than the caller allows is an error, and not read to its end."""
    with client.request("GET", blob_url(fake)) as response:
        with pytest.raises(TransportError, match="longer than 1000 bytes"):
            response.read(1000)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:1/x", "connection refused"),
        ("http://name.invalid/x", "no such host"),
        ("ftp://example.com/x", "not an http or https URL"),
        ("http://[::1/x", "malformed"),
        ("http://example.com:port/", "malformed"),
        ("http:///x", "not an http or https URL"),
    ],
)
def test_no_answer_is_a_clear_error(client: Client, url: str, said: str) -> None:
    """What went wrong below HTTP is said in a few words."""
    with pytest.raises(TransportError, match=said):
        client.request("GET", url)


# Redirects and trust


def test_redirect_elsewhere_drops_credentials(fake: FakeRegistry, client: Client) -> None:
    """Another host (or port) never sees Authorization or Cookie; the same one does."""
    with FakeRegistry() as other:
        target = blob_url(other)
        fake.fail(Status(307, {"Location": target}), path="/elsewhere")
        fake.fail(Status(307, {"Location": "/v2/"}), path="/here")
        secret = {"Authorization": "Bearer s3cret", "Cookie": "id=s3cret", "X-Plain": "kept"}
        assert client.request("GET", f"http://{fake.host}/elsewhere", headers=secret).read(1 << 20) == DATA
        client.request("GET", f"http://{fake.host}/here", headers=secret).close()
        assert "s3cret" not in str(other.seen)
        assert other.seen[0].headers["x-plain"] == "kept"
        assert fake.seen[-1].headers["authorization"] == "Bearer s3cret"


def test_redirect_loop_ends(fake: FakeRegistry, client: Client) -> None:
    """A server that redirects for ever is given up."""
    fake.fail(Status(302, {"Location": "/loop"}), path="/loop", times=1000)
    with pytest.raises(TransportError, match="more than 10 redirects"):
        client.request("GET", f"http://{fake.host}/loop")


@pytest.mark.parametrize(
    "location", ["http://[::1", "ftp://example.com/", "http://a:b:c/", "file:///etc/passwd"]
)
def test_hostile_redirect_is_refused(fake: FakeRegistry, client: Client, location: str) -> None:
    """A redirect to what is no http URL is an error."""
    fake.fail(Status(302, {"Location": location}), path="/x")
    with pytest.raises(TransportError):
        client.request("GET", f"http://{fake.host}/x")


def test_plain_http_needs_trust(fake: FakeRegistry) -> None:
    """Without trust in the host, plain http is refused before anything is sent; so it is after a redirect."""
    with Client(environ={}, patience=QUICK) as client:
        with pytest.raises(TransportError, match="plain http is not allowed"):
            client.request("GET", f"http://{fake.host}/v2/")
    with FakeRegistry() as other:
        fake.fail(Status(307, {"Location": f"http://{other.host}/v2/"}), path="/v2/")
        with Client(lambda host: Trust(plain_http=host == fake.host), environ={}, patience=QUICK) as client:
            with pytest.raises(TransportError, match="plain http is not allowed"):
                client.request("GET", f"http://{fake.host}/v2/")
        assert other.seen == []


def test_urls_are_shown_without_secrets() -> None:
    """Messages hold neither user and password nor the query, which may be a signature."""
    assert redacted("https://me:pw@example.com:8443/a?sig=abc#x") == "https://example.com:8443/a?…"
    with Client(lambda host: Trust(plain_http=True), patience=QUICK, environ={}) as client:
        with pytest.raises(TransportError) as raised:
            client.request("GET", "http://me:pw-s3cret@127.0.0.1:1/?sig=s3cret")
    assert "s3cret" not in str(raised.value) + repr(raised.value) + raised.value.hint


def test_origins() -> None:
    """A missing port is the scheme's own."""
    assert origin("https://a/x") == origin("https://A:443/y")
    assert origin("https://a/") != origin("http://a/")
    assert origin("https://a/") != origin("https://a:8443/")


# Proxies


@pytest.mark.parametrize(
    ("no_proxy", "host", "direct"),
    [
        ("", "example.com", False),
        ("*", "example.com", True),
        ("example.com", "example.com", True),
        ("example.com", "sub.example.com", True),
        ("example.com", "badexample.com", False),
        (".example.com", "example.com", False),
        (".example.com", "a.example.com", True),
        ("*.example.com", "a.example.com", True),
        ("other, example.com:8443", "example.com:8443", True),
        ("example.com:8443", "example.com", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("", "localhost", True),
        ("", "127.0.0.5", True),
        ("", "[::1]:5000", True),
    ],
)
def test_no_proxy(no_proxy: str, host: str, direct: bool) -> None:
    """NO_PROXY is read as Go reads it; loopback never goes through a proxy."""
    environ = {"HTTPS_PROXY": "proxy:3128", "NO_PROXY": no_proxy}
    assert proxy_for(f"https://{host}/v2/", environ) == (None if direct else "http://proxy:3128")


def test_proxy_by_scheme() -> None:
    """Each scheme has its variable, in either case; in a CGI script HTTP_PROXY may be an attacker's header."""
    assert proxy_for("http://a/", {"http_proxy": "http://p"}) == "http://p"
    assert proxy_for("https://a/", {"http_proxy": "http://p"}) is None
    assert proxy_for("https://a/", {"ALL_PROXY": "p:1"}) == "http://p:1"
    assert proxy_for("http://a/", {"HTTP_PROXY": "http://p", "REQUEST_METHOD": "GET"}) is None


def test_requests_go_through_the_proxy(fake: FakeRegistry) -> None:
    """The proxy gets the whole URL, and its own credentials, which are in no message."""
    environ = {"http_proxy": f"http://me:s3cret@{fake.host}"}
    with Client(lambda host: Trust(plain_http=True), patience=QUICK, environ=environ) as client:
        client.request("GET", "http://registry.example/v2/").close()
    assert fake.seen[0].path == "http://registry.example/v2/"
    assert fake.seen[0].headers["proxy-authorization"].startswith("Basic ")


# Downloads


@pytest.mark.parametrize("ranges", [True, False])
def test_broken_download_is_resumed(fake: FakeRegistry, client: Client, ranges: bool) -> None:
    """The bytes arrive once and in order, whether the server knows Range or sends all again."""
    fake.ranges = ranges
    url = blob_url(fake)
    for cut in (100_000, 250_000, 0):
        fake.fail(Cut(cut), path="/blobs/")
    assert got(client, url) == DATA
    asked = [seen.headers.get("range") for seen in fake.requests("GET", "/blobs/")]
    assert asked[0] is None
    assert asked[1] == "bytes=100000-"


def test_short_body_with_a_fitting_length_is_resumed(fake: FakeRegistry, client: Client) -> None:
    """A body that ends early without any error is noticed by the size that was expected."""
    url = blob_url(fake)
    fake.fail(Truncate(1000), path="/blobs/")
    assert got(client, url) == DATA


def test_endless_breaking_is_given_up(fake: FakeRegistry, client: Client) -> None:
    """A server that breaks off every time without bringing anything is given up."""
    url = blob_url(fake)
    fake.fail(Cut(10), path="/blobs/", times=1000)
    with pytest.raises(TransportError, match="broke"):
        got(client, url)
    assert len(fake.requests("GET", "/blobs/")) == QUICK.attempts


def test_too_long_a_body_is_refused(fake: FakeRegistry, client: Client) -> None:
    """More bytes than announced end the download."""
    url = blob_url(fake)
    fake.fail(Append(b"x"), path="/blobs/")
    with pytest.raises(TransportError, match="more than"):
        got(client, url)


def test_wrong_range_is_refused(fake: FakeRegistry, client: Client) -> None:
    """An answer that begins past what was asked for leaves a gap, so it is not used."""
    url = blob_url(fake)
    fake.fail(Cut(1000), path="/blobs/")
    fake.fail(Header("Content-Range", "bytes 2000-2999/3000"), path="/blobs/")
    with pytest.raises(NotResumable):
        got(client, url)


def test_what_may_change_is_resumed_only_by_etag(fake: FakeRegistry, client: Client) -> None:
    """Without a digest, a broken body goes on only under the same strong ETag (If-Range)."""
    url = blob_url(fake)
    fake.fail(Cut(1000), path="/blobs/")
    with pytest.raises(NotResumable):
        got(client, url, immutable=False)


def test_slow_drip_is_left(fake: FakeRegistry) -> None:
    """A server that all but stops counts as a broken connection; the rest is asked for anew."""
    url = blob_url(fake)
    fake.fail(Drip(0.15), path="/blobs/")
    slow = Patience(attempts=3, first_wait=0.01, slow_window=0.3, slowest=100 * len(DATA))
    with Client(lambda host: Trust(plain_http=True), patience=slow, environ={}) as client:
        body = download(
            lambda headers: client.request("GET", url, headers=headers), immutable=True, patience=slow
        )
        assert b"".join(body) == DATA
    assert len(fake.requests("GET", "/blobs/")) == 2


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(0, 5000), max_size=3), ranges=st.booleans(), size=st.integers(0, 5000))
def test_any_cuts_give_the_right_bytes(cuts: list[int], ranges: bool, size: int) -> None:
    """However a transfer is cut, what arrives is the body, once and in order."""
    data = DATA[:size]
    with FakeRegistry(ranges=ranges) as fake:
        url = blob_url(fake, data)
        for cut in cuts:
            fake.fail(Cut(cut), path="/blobs/")
        with Client(lambda host: Trust(plain_http=True), patience=QUICK, environ={}) as client:
            assert got(client, url, size=size) == data


# Fetching


def test_fetch_gives_a_file(fake: FakeRegistry, client: Client, tmp_path: Path) -> None:
    """The file holds the body, and digest, size and time describe it."""
    url = blob_url(fake)
    fake.fail(Header("Last-Modified", "Thu, 01 Jan 1970 00:01:40 GMT"), path="/blobs/")
    found = fetch(url, tmp_path, client=client)
    assert found is not None
    assert found.path.read_bytes() == DATA
    assert (found.size, found.mtime) == (len(DATA), 100)
    assert found.digest == "sha256:" + hashlib.sha256(DATA).hexdigest()


def test_fetch_knows_what_has_not_changed(fake: FakeRegistry, client: Client, tmp_path: Path) -> None:
    """A 304 to the conditions sent gives None, and no file."""
    url = blob_url(fake)
    fake.fail(Status(304), path="/blobs/", times=2)
    assert (
        fetch(url, tmp_path, client=client, known=Validators('"one"', "Thu, 01 Jan 1970 00:01:40 GMT"))
        is None
    )
    assert fake.seen[-1].headers["if-none-match"] == '"one"'
    assert fetch(url, tmp_path, client=client, known=Validators("", "Thu, 01 Jan 1970 00:01:40 GMT")) is None
    assert fake.seen[-1].headers["if-modified-since"] == "Thu, 01 Jan 1970 00:01:40 GMT"
    assert list(tmp_path.iterdir()) == []


def test_broken_fetch_starts_anew(fake: FakeRegistry, client: Client, tmp_path: Path) -> None:
    """Without checksum and ETag a broken body can't be resumed, so all of it is fetched again."""
    url = blob_url(fake)
    fake.fail(Cut(1000), path="/blobs/")
    found = fetch(url, tmp_path, client=client)
    assert found is not None
    assert found.path.read_bytes() == DATA
    assert [seen.headers.get("range") for seen in fake.seen] == [None, "bytes=1000-", None]


def test_fetch_verifies_its_checksum(fake: FakeRegistry, client: Client, tmp_path: Path) -> None:
    """Other bytes than the checksum says are an error and leave no file."""
    url = blob_url(fake)
    fake.fail(Garble(7), path="/blobs/")
    with pytest.raises(TransportError, match="its digest is"):
        fetch(url, tmp_path, client=client, checksum="sha256:" + hashlib.sha256(DATA).hexdigest())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("status", [404, 410])
def test_fetch_of_nothing(fake: FakeRegistry, client: Client, tmp_path: Path, status: int) -> None:
    """What isn't there is a NotFoundError."""
    fake.fail(Status(status), path="/x")
    with pytest.raises(NotFoundError):
        fetch(f"http://{fake.host}/x", tmp_path, client=client)


def test_fetch_is_bounded(fake: FakeRegistry, client: Client, tmp_path: Path) -> None:
    """A body beyond the limit is refused, announced or not, and leaves no file."""
    url = blob_url(fake)
    with pytest.raises(TransportError, match="limit of 1000"):
        fetch(url, tmp_path, client=client, limit=1000)
    assert list(tmp_path.iterdir()) == []


def test_login_in_a_url(fake: FakeRegistry, client: Client, tmp_path: Path) -> None:
    """User and password of the URL become Basic authentication."""
    fake.basic = ("me", "p:w/ä")
    url = blob_url(fake).replace("://", "://me:p%3Aw%2F%C3%A4@")
    assert fetch(url, tmp_path, client=client) is not None


# Parallel


def test_first_failure_ends_all() -> None:
    """The first error is raised; tasks that wait on ``stop`` end, those that had not begun never do."""
    begun: list[int] = []

    def waits(stop: threading.Event) -> None:
        begun.append(1)
        assert stop.wait(5)

    def fails(stop: threading.Event) -> None:
        raise TransportError("first")

    with pytest.raises(TransportError, match="first"):
        run_all([waits, fails, waits, waits], jobs=2)
    assert len(begun) == 1


def test_all_tasks_run() -> None:
    """Every task runs once, also when there are fewer jobs than tasks, or none at all."""
    done: list[int] = []
    run_all([lambda stop, n=n: done.append(n) for n in range(50)], jobs=3)  # type: ignore[misc]
    assert sorted(done) == list(range(50))
    run_all([], jobs=3)
