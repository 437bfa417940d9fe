"""DOWNLOAD: a body that survives broken connections.

In: a function that asks for a body from some offset on. Out: its bytes, once and in order, or a TransportError.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Generator, Mapping

from layersmith.errors import TransportError
from layersmith.transport.http import BrokenBody, Response
from layersmith.transport.patience import Patience, check, pause
from layersmith.transport.urls import redacted

PROGRESS = 1 << 16
"""Bytes that one connection must bring for the patience to start afresh."""


class NotResumable(TransportError):
    """A body that broke can't go on where it stopped; it may have changed meanwhile."""


def download(
    get: Callable[[Mapping[str, str]], Response],
    *,
    size: int | None = None,
    immutable: bool = False,
    patience: Patience,
    stop: threading.Event | None = None,
) -> Generator[bytes, None, None]:
    """The body of ``get(headers)``, which asks again from where it stopped whenever the connection breaks.

    ``get`` sends a GET with the headers given and raises unless it is answered with 200 or 206. With ``size``, a
    body that ends early counts as broken, and a longer one is an error. ``immutable`` says that every answer holds
    the same bytes (the caller knows their digest), so that any server's Range will do, and where Range is ignored the
    known part is skipped. Otherwise only a strong ETag lets a body go on, and without one it is `NotResumable`.
    """
    offset, failures, validator = 0, 0, ""
    while True:
        before = offset
        try:
            with get(_range(offset, validator)) as response:
                skip = offset - _start_of(response)
                if skip < 0 or (offset and not immutable and (skip or not validator)):
                    raise NotResumable(f"{redacted(response.url)}: broke off and can't be resumed")
                validator = validator or _strong_validator(response)
                for chunk in response.chunks():
                    check(stop)
                    fresh = chunk[skip:] if skip else chunk
                    skip -= len(chunk) - len(fresh)
                    offset += len(fresh)
                    if size is not None and offset > size:
                        raise TransportError(
                            f"{redacted(response.url)}: more than the {size} bytes announced"
                        )
                    if fresh:
                        yield fresh
                if size is None or offset == size:
                    return
                raise BrokenBody(f"{redacted(response.url)}: ended after {offset} of {size} bytes")
        except BrokenBody:
            failures = 1 if offset - before >= PROGRESS else failures + 1
            if failures >= patience.attempts:
                raise
            pause(patience.backoff(failures), stop)


def _range(offset: int, validator: str) -> dict[str, str]:
    if not offset:
        return {}
    return {"Range": f"bytes={offset}-"} | ({"If-Range": validator} if validator else {})


def _start_of(response: Response) -> int:
    """The offset at which the body begins: that of Content-Range for 206, else 0."""
    if response.status != 206:
        return 0
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if not match:
        raise NotResumable(f"{redacted(response.url)}: answered 206 without a valid Content-Range")
    return int(match[1])


def _strong_validator(response: Response) -> str:
    """What If-Range may hold (RFC 9110 13.1.5): a strong ETag."""
    etag = response.headers.get("ETag", "")
    return "" if etag.startswith("W/") else etag
