"""HTTP for registries and for ADD of a URL. The only module that imports urllib3, and only when a request is made.

In: a method, a URL, headers and a body. Out: a `Response` whose body is streamed, or a TransportError.

`Client.request` retries what may pass, follows redirects without carrying credentials to another host, and refuses
plain http unless the host is trusted with it.
"""

from __future__ import annotations

import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from layersmith import __version__
from layersmith.dataclass import dataclass, field
from layersmith.errors import TransportError
from layersmith.progress import Notice, NullProgress, Progress
from layersmith.transport.patience import Patience, check, pause, retry_after
from layersmith.transport.tls import Trust, causes, certificate_error, ssl_context
from layersmith.transport.urls import origin, proxy_for, redacted, split

if TYPE_CHECKING:
    import urllib3

BLOCK = 1 << 20
MAX_REDIRECTS = 10
REDIRECTS = frozenset({301, 302, 303, 307, 308})
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that may be gone a moment later."""
SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})


@dataclass(slots=True)
class FilePart:
    """``size`` bytes of the file at ``path`` from ``offset`` on, as a request's body that can be sent again."""

    path: Path
    offset: int
    size: int
    on_sent: Callable[[int], None] = field(default=lambda count: None)


Body = bytes | FilePart | None


class Response:
    """A status, headers (looked up in any case) and a body that is read once. Close it, or use it as a context."""

    def __init__(self, raw: urllib3.BaseHTTPResponse, url: str, patience: Patience) -> None:
        self._raw = raw
        self._patience = patience
        self.status: int = raw.status
        self.headers: Mapping[str, str] = raw.headers
        self.url = url

    def chunks(self, size: int = BLOCK) -> Iterator[bytes]:
        """The body as it arrives, undecoded, at most ``size`` bytes at a time. Raises `BrokenBody` when it is cut."""
        window, counted = time.monotonic(), 0
        while chunk := self._read(size):
            counted += len(chunk)
            elapsed = time.monotonic() - window
            if elapsed > self._patience.slow_window:
                if counted < self._patience.slowest * elapsed:
                    raise BrokenBody(f"{redacted(self.url)}: only {counted} bytes in {elapsed:.0f} s")
                window, counted = time.monotonic(), 0
            yield chunk

    def _read(self, size: int) -> bytes:
        import urllib3

        try:
            return self._raw.read1(size, decode_content=False) or b""
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise BrokenBody(f"{redacted(self.url)}: the connection broke: {explain(error)}") from None

    def read(self, limit: int) -> bytes:
        """The whole body. Raises TransportError when it is longer than ``limit`` bytes, or is cut."""
        parts, total = [], 0
        for chunk in self.chunks():
            total += len(chunk)
            if total > limit:
                raise TransportError(f"{redacted(self.url)}: the answer is longer than {limit} bytes")
            parts.append(chunk)
        return b"".join(parts)

    def close(self) -> None:
        """Give the connection back when little of the body is left to read, else close it."""
        remaining = self._raw.length_remaining
        if remaining is not None and remaining <= 1 << 16:
            with suppress(BrokenBody):
                for _ in self.chunks():
                    pass
        self._raw.close()

    def __enter__(self) -> Response:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class BrokenBody(TransportError):
    """The connection broke, or all but stopped, within a body."""


class Client:
    """Pools of connections, for each kind of trust and proxy. Usable from many threads; `close` it, or use it as a context.

    ``trust`` is asked with ``host[:port]`` before anything is sent there.
    """

    def __init__(
        self,
        trust: Callable[[str], Trust] = lambda host: Trust(),
        *,
        patience: Patience | None = None,
        progress: Progress | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.patience = patience or Patience()
        self._trust = trust
        self._progress = progress or NullProgress()
        self._environ = environ
        self._pools: dict[tuple[Trust | None, str | None], urllib3.PoolManager] = {}
        self._lock = threading.Lock()

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body = None,
        attempts: int | None = None,
        stop: threading.Event | None = None,
    ) -> Response:
        """Send, following redirects and retrying what may pass; the answer may have any status.

        Waits between the at most ``attempts`` (1: never again) as the server says in Retry-After, else ever longer.
        Raises TransportError when no answer can be had, and Cancelled once ``stop`` is set.
        """
        sent = dict(headers or {})
        sent.setdefault("User-Agent", f"layersmith/{__version__}")
        for _ in range(MAX_REDIRECTS + 1):
            response = self._patiently(method, url, sent, body, attempts, stop)
            location = response.headers.get("Location")
            if response.status not in REDIRECTS or not location:
                return response
            response.close()
            target = _joined(url, location)
            if origin(target) != origin(url):
                sent = {name: value for name, value in sent.items() if name.lower() not in SECRET_HEADERS}
            if response.status == 303 or (response.status in (301, 302) and method == "POST"):
                method, body = "GET", None
            url = target
        raise TransportError(f"{redacted(url)}: more than {MAX_REDIRECTS} redirects")

    def close(self) -> None:
        """Close all idle connections."""
        with self._lock:
            for pool in self._pools.values():
                pool.clear()
            self._pools.clear()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _patiently(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body,
        attempts: int | None,
        stop: threading.Event | None,
    ) -> Response:
        attempts = attempts or self.patience.attempts
        for attempt in range(1, attempts + 1):
            check(stop)
            try:
                response = self._send(method, url, headers, body)
            except _NoAnswer as failure:
                if attempt >= min(attempts, failure.attempts):
                    raise TransportError(failure.message, hint=failure.hint) from None
                wait = self.patience.backoff(attempt)
            else:
                if response.status not in PASSING or attempt == attempts:
                    return response
                asked = retry_after(response.headers.get("Retry-After", ""), time.time())
                wait = max(asked or 0.0, self.patience.backoff(attempt) if asked is None else 0.0)
                if wait > self.patience.longest_wait:
                    return response
                response.close()
                if wait >= 2:
                    host = urlsplit(url).netloc.rpartition("@")[2]
                    text = f"{host} answered {response.status}; trying again in {wait:.0f} s"
                    self._progress.emit(Notice("info", text))
            pause(wait, stop)
        raise AssertionError("unreachable")

    def _send(self, method: str, url: str, headers: Mapping[str, str], body: Body) -> Response:
        import urllib3

        pool = self._pool(url)
        data: Any = body
        if isinstance(body, FilePart):
            headers = {**headers, "Content-Length": str(body.size)}
            data = _blocks(body)
        try:
            raw = pool.request(
                method,
                url,
                body=data,
                headers=dict(headers),
                preload_content=False,
                redirect=False,
                retries=False,
                decode_content=False,
                timeout=urllib3.Timeout(connect=self.patience.connect, read=self.patience.read),
            )
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise _NoAnswer(method, url, error) from None
        return Response(raw, url, self.patience)

    def _pool(self, url: str) -> urllib3.PoolManager:
        parts = split(url)
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
            raise TransportError(f"{redacted(url)}: not an http or https URL")
        name = parts.netloc.rpartition("@")[2]
        trust = self._trust(name)
        if parts.scheme == "http" and not trust.plain_http:
            raise TransportError(
                f"{redacted(url)}: plain http is not allowed for {name}",
                hint=f"serve it over https, or list {name} under insecure registries in the configuration",
            )
        proxy = proxy_for(url, self._environ)
        # Loading the system's CAs takes longer than a whole request on loopback, so only TLS pays for it.
        tls = trust if "https" in (parts.scheme, urlsplit(proxy or "").scheme) else None
        with self._lock:
            pool = self._pools.get((tls, proxy))
            if pool is None:
                pool = self._pools[tls, proxy] = _new_pool(tls, proxy)
            return pool


class _NoAnswer(Exception):
    """No answer could be had, and how many ``attempts`` it is worth."""

    def __init__(self, method: str, url: str, error: Exception) -> None:
        import urllib3

        self.message = f"{method} {redacted(url)}: {explain(error)}"
        self.hint = ""
        self.attempts = 1 << 30
        if isinstance(error, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError):
            self.attempts = 3  # a misspelt name or a stopped server, seldom a passing fault
        elif isinstance(error, ValueError) or "WRONG_VERSION_NUMBER" in self.message:
            self.attempts = 1  # no URL, or no TLS server
        elif certificate_error(error):
            self.attempts = 1
            self.hint = "a private CA's certificate belongs into certs.d/<host>/ca.crt"


def _joined(url: str, location: str) -> str:
    try:
        target = urljoin(url, location)
    except ValueError:
        target = location
    if split(target) is None:
        raise TransportError(f"{redacted(url)}: redirects to a malformed URL")
    return target


def _new_pool(tls: Trust | None, proxy: str | None) -> urllib3.PoolManager:
    import urllib3

    if tls and not tls.verify:
        # Whoever marked the host insecure is told so by us, once; urllib3 would print it at every request.
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    options: dict[str, Any] = {"maxsize": 16, "blocksize": BLOCK}
    if tls:
        options["ssl_context"] = ssl_context(tls)
    if proxy is None:
        return urllib3.PoolManager(**options)
    parts = urlsplit(proxy)
    if parts.scheme not in ("http", "https"):
        raise TransportError(f"the proxy {redacted(proxy)} is neither http nor https")
    login = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        login = urllib3.make_headers(proxy_basic_auth=pair)
    bare = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], "", "", ""))
    return urllib3.ProxyManager(bare, proxy_headers=login, **options)


def _blocks(part: FilePart) -> Iterator[bytes]:
    with open(part.path, "rb") as file:
        file.seek(part.offset)
        left = part.size
        while left and (block := file.read(min(BLOCK, left))):
            yield block
            left -= len(block)
            part.on_sent(len(block))


def explain(error: BaseException) -> str:
    """What went wrong below HTTP, in a few words and without any URL."""
    import urllib3.exceptions as u

    if certificate := certificate_error(error):
        return f"the certificate is not trusted: {certificate.verify_message}"
    if any(isinstance(cause, u.NameResolutionError) for cause in causes(error)):
        return "no such host"
    for cause in causes(error):
        if isinstance(cause, u.TimeoutError | TimeoutError):
            return "no answer in time"
        if isinstance(cause, ssl.SSLError):
            return f"TLS failed: {cause.reason or 'not a TLS server'}"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror.lower()
    if isinstance(error, u.ProtocolError):
        return "the connection was closed too early"
    return type(error).__name__
