"""FETCH: a file from an http(s) URL, for ADD.

In: a URL, and what is known of it from an earlier fetch. Out: a `Fetched` file in a directory of the caller, or None
when the known one is still right.
"""

from __future__ import annotations

import base64
import hashlib
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import unquote

from layersmith.dataclass import dataclass
from layersmith.errors import NotFoundError, TransportError
from layersmith.progress import NullProgress, Progress, Transfer
from layersmith.transport.download import NotResumable, download
from layersmith.transport.http import Client, Response
from layersmith.transport.tls import Trust
from layersmith.transport.urls import redacted, split

MAX_SIZE = 64 << 30
"""Bytes: past this a body is taken for endless."""


@dataclass(frozen=True, slots=True)
class Validators:
    """What a server said of a body, to ask later whether it changed (RFC 9110 13.1); empty where it said nothing."""

    etag: str = ""
    last_modified: str = ""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file at ``path`` of ``size`` bytes with ``digest`` (``sha256:…``); ``mtime`` is that of Last-Modified, else 0.

    ``path`` is the caller's to delete.
    """

    path: Path
    size: int
    digest: str
    mtime: int
    validators: Validators


def fetch(
    url: str,
    directory: Path,
    *,
    client: Client | None = None,
    known: Validators | None = None,
    checksum: str | None = None,
    headers: Mapping[str, str] | None = None,
    limit: int = MAX_SIZE,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> Fetched | None:
    """Fetch ``url`` into a new file in ``directory`` (mode 0600); None if ``known`` says it hasn't changed.

    ``checksum`` (``sha256:<64 hex>``) is verified before the file is handed out. ``headers`` (Authorization, say) go
    to the URL's own host only. Raises NotFoundError (404, 410) and TransportError: no answer, another status, a
    body longer than ``limit`` bytes or with another checksum. No file is left behind then.
    """
    own = client or adding_client()
    try:
        for attempt in range(own.patience.attempts):
            try:
                return _fetch(own, url, directory, known, checksum, headers or {}, limit, progress, stop)
            except NotResumable:
                if attempt == own.patience.attempts - 1:
                    raise
        raise AssertionError("unreachable")
    finally:
        if client is None:
            own.close()


def adding_client() -> Client:
    """A `Client` for ADD: any host by plain http too, since the Buildfile's author chose the URL."""
    return Client(lambda host: Trust(plain_http=True))


def _fetch(
    client: Client,
    url: str,
    directory: Path,
    known: Validators | None,
    checksum: str | None,
    headers: Mapping[str, str],
    limit: int,
    progress: Progress | None,
    stop: threading.Event | None,
) -> Fetched | None:
    headers = {**_login(url), **headers}
    first = client.request("GET", url, headers={**headers, **_conditions(known)}, stop=stop)
    if first.status == 304 and known:
        first.close()
        return None
    _expect_body(first)
    answers = [first]

    def get(extra: Mapping[str, str]) -> Response:
        if answers:
            return answers.pop()
        again = client.request("GET", url, headers={**headers, **extra}, stop=stop)
        _expect_body(again)
        return again

    length = first.headers.get("Content-Length", "")
    total = int(length) if length.isdigit() else 0
    if total > limit:
        first.close()
        raise TransportError(f"{redacted(url)}: {total} bytes, more than the limit of {limit}")
    sink, hasher, done = progress or NullProgress(), hashlib.sha256(), 0
    handle, name = tempfile.mkstemp(prefix="fetch-", dir=directory)
    try:
        with open(handle, "wb", buffering=0) as file:
            body = download(get, immutable=checksum is not None, patience=client.patience, stop=stop)
            for chunk in body:
                done += len(chunk)
                if done > limit:
                    raise TransportError(f"{redacted(url)}: more than the limit of {limit} bytes")
                hasher.update(chunk)
                file.write(chunk)
                sink.emit(Transfer("pull", redacted(url), done, total))
        digest = f"sha256:{hasher.hexdigest()}"
        if checksum is not None and digest != checksum:
            raise TransportError(
                f"{redacted(url)}: its digest is {digest}, not {checksum}",
                hint="the file has changed, or the checksum is wrong; --checksum names the digest that is wanted",
            )
    except BaseException:
        with suppress(FileNotFoundError):
            Path(name).unlink()
        raise
    modified = first.headers.get("Last-Modified", "")
    return Fetched(
        Path(name), done, digest, _unix_time(modified), Validators(first.headers.get("ETag", ""), modified)
    )


def _login(url: str) -> dict[str, str]:
    """Basic authentication by the user and password in the URL, as curl does it."""
    parts = split(url)
    if parts is None or parts.username is None:
        return {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


def _conditions(known: Validators | None) -> dict[str, str]:
    if known is None:
        return {}
    if known.etag:
        return {"If-None-Match": known.etag}
    return {"If-Modified-Since": known.last_modified} if known.last_modified else {}


def _expect_body(response: Response) -> None:
    if response.status in (200, 206):
        return
    status = response.status
    response.close()
    if status in (404, 410):
        raise NotFoundError(f"{redacted(response.url)}: no such file ({status})")
    hint = "a secret HTTP_AUTH_TOKEN_<host> can carry a token for it" if status in (401, 403) else ""
    raise TransportError(f"{redacted(response.url)}: answered {status}", hint=hint)


def _unix_time(date: str) -> int:
    try:
        return max(0, int(parsedate_to_datetime(date).timestamp()))
    except ValueError:
        return 0
