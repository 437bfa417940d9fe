"""Uploads of one blob, by the distribution spec ("Pushing blobs"): mounted, in one piece, or from where a try broke off.

In: a file, its descriptor, and repositories that may have it. Out: the blob at the registry, which has verified its digest.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urljoin

from layersmith.errors import NotFoundError, TransportError
from layersmith.oci.descriptor import Descriptor
from layersmith.transport.http import PASSING, FilePart, Response
from layersmith.transport.patience import pause
from layersmith.transport.registry.repository import Repository

CHUNK = 32 << 20
"""Bytes of a chunk where a registry, or a proxy before it, refuses a blob in one piece."""


def upload(
    repository: Repository,
    descriptor: Descriptor,
    path: Path | None,
    *,
    mount_from: tuple[str, ...] = (),
    sent: Callable[[int], None] = lambda done: None,
    stop: threading.Event | None = None,
) -> None:
    """Upload the file at ``path`` as the blob ``descriptor``. ``sent`` hears how many bytes are through.

    First the registry is asked to take the blob from its repositories ``mount_from``. A broken try is taken up where
    the registry says it ended, or begun anew.

    Raises:
        NotFoundError: there is nothing to mount, and no file (``path`` is None).
        TransportError: the registry doesn't take it.
    """
    session = _Upload(repository, descriptor, path, sent, stop)
    if session.mounted(mount_from):
        return
    if path is None:
        raise NotFoundError(f"the blob {descriptor.digest} is neither in the store nor at the registry")
    patience = repository.client.patience
    for failures in range(1, patience.attempts + 1):
        try:
            session.attempt()
            return
        except _Broken as broken:
            if failures == patience.attempts:
                raise TransportError(broken.message, hint=broken.hint) from None
            pause(patience.backoff(failures), stop)


class _Broken(TransportError):
    """A try that may go better when repeated."""


class _Upload:
    """An upload session: its ``location`` at the registry, and how many bytes that has."""

    def __init__(
        self,
        repository: Repository,
        descriptor: Descriptor,
        path: Path | None,
        sent: Callable[[int], None],
        stop: threading.Event | None,
    ) -> None:
        self._repository = repository
        self._descriptor = descriptor
        self._path = path
        self._sent = sent
        self._stop = stop
        self._location: str | None = None
        self._offset = 0
        self._chunk: int | None = None
        self._broken = False

    def mounted(self, sources: tuple[str, ...]) -> bool:
        """Whether the registry took the blob from one of ``sources``. Where it didn't, it has begun an upload instead."""
        for source in sources:
            what = f"blobs/uploads/?mount={self._descriptor.digest}&from={source}"
            response = self._repository.request("POST", what, push=True, mount_from=source, stop=self._stop)
            with response:
                if response.status == 201:
                    self._sent(self._descriptor.size)
                    return True
                if response.status == 202 and self._path is not None:
                    self._moved(response, 0)
        return False

    def attempt(self) -> None:
        """One try: find out where we stand, send what is missing, close. Raises _Broken or TransportError."""
        if self._broken:
            self._ask()
        self._broken = True
        if self._location is None:
            self._start()
        size = self._descriptor.size
        # Whatever follows a first piece, or an interruption, is sent by PATCH; a whole blob goes with the closing PUT.
        while self._chunk is not None or self._offset:
            if self._offset >= size:
                break
            end = min(size, self._offset + (self._chunk or size))
            span = {"Content-Range": f"{self._offset}-{end - 1}", "Content-Type": "application/octet-stream"}
            response = self._send("PATCH", self._at(), self._part(end), span)
            with response:
                self._check(response, 202, 204)
                self._moved(response, end)
        with self._send(
            "PUT", self._closing(), self._part(size), {"Content-Type": "application/octet-stream"}
        ) as response:
            self._check(response, 201, 204)
        self._sent(size)

    def _start(self) -> None:
        self._offset = 0
        with self._repository.request("POST", "blobs/uploads/", push=True, stop=self._stop) as response:
            self._repository.expect(response, 202)
            self._moved(response, 0)

    def _ask(self) -> None:
        """Take location and offset from the upload's status; forget an upload that the registry doesn't know."""
        if self._location is None:
            return
        url, self._location = self._location, None
        with self._repository.request("GET", url, push=True, stop=self._stop) as response:
            match = re.fullmatch(r"(?:bytes=)?0-(\d+)", response.headers.get("Range", ""))
            if response.status == 204 and match:
                # An empty upload is told as 0-0, like one of one byte; one that begins anew is right for both.
                end = int(match[1]) + 1
                if 1 < end <= self._descriptor.size:
                    self._moved(response, end)

    def _moved(self, response: Response, offset: int) -> None:
        location = response.headers.get("Location")
        if location:
            self._location = urljoin(response.url, location)
        elif self._location is None:
            raise TransportError(f"{self._repository.name}: the registry doesn't say where to upload to")
        self._offset = offset
        self._sent(offset)

    def _send(self, method: str, url: str, body: FilePart | None, headers: dict[str, str]) -> Response:
        if body is None:
            headers = {"Content-Length": "0"}
        try:
            return self._repository.request(
                method, url, headers=headers, body=body, push=True, attempts=1, stop=self._stop
            )
        except TransportError as error:
            raise _Broken(error.message, hint=error.hint) from None

    def _check(self, response: Response, *statuses: int) -> None:
        if response.status in statuses:
            return
        if response.status == 413 and self._chunk is None:
            self._chunk, self._location = CHUNK, None
            raise _Broken(f"{self._repository.name}: a request of {self._descriptor.size} bytes is too large")
        if response.status in PASSING or response.status in (404, 416):
            raise _Broken(
                f"{self._repository.name}: the upload of {self._descriptor.digest} failed: {response.status}"
            )
        self._repository.expect(response, *statuses)

    def _part(self, end: int) -> FilePart | None:
        start = self._offset
        if start >= end:
            return None
        through = start

        def count(bytes_sent: int) -> None:
            nonlocal through
            through += bytes_sent
            self._sent(through)

        assert self._path is not None
        return FilePart(self._path, start, end - start, count)

    def _at(self) -> str:
        assert self._location is not None
        return self._location

    def _closing(self) -> str:
        url = self._at()
        return f"{url}{'&' if '?' in url else '?'}digest={self._descriptor.digest}"
