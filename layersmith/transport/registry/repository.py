"""One repository at one registry: the requests of the distribution spec 1.1, authorized.

In: digests, tags and bytes. Out: answers with the status that the spec gives for success, or an error that says what
the registry said. Nothing here looks into a manifest or touches the store.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Generator, Iterator, Mapping
from typing import Any
from urllib.parse import urljoin

from layersmith.errors import NotFoundError, TransportError
from layersmith.oci.descriptor import Descriptor
from layersmith.oci.digest import Digest, digest_of, parse_digest
from layersmith.oci.document import MAX_DOCUMENT
from layersmith.oci.mediatype import ACCEPT_MANIFEST, is_index, is_manifest
from layersmith.transport.download import download
from layersmith.transport.http import Body, Response
from layersmith.transport.registry.host import Host
from layersmith.transport.urls import origin, redacted

MAX_TAGS = 100_000
_NEXT = re.compile(r'<([^>]*)>\s*;.*\brel="?next"?')


class Repository:
    """The repository ``path`` at ``host``; ``name`` is how a person knows it, with the registry's domain."""

    def __init__(self, host: Host, path: str, name: str) -> None:
        self.path = path
        self.name = name
        self.client = host.client
        self._host = host

    # Manifests

    def head_manifest(self, which: str) -> Descriptor | None:
        """The descriptor of a tag or digest by HEAD; None if the registry doesn't say enough. NotFoundError for none."""
        response = self.request("HEAD", f"manifests/{which}", headers=_ACCEPT)
        with response:
            if response.status == 404:
                raise self._missing(which)
            digest = response.headers.get("Docker-Content-Digest", "")
            length = response.headers.get("Content-Length", "")
            if response.status != 200 or not digest or not length.isdigit():
                return None
            return Descriptor(_media_type(response), parse_digest(digest), int(length))

    def get_manifest(self, which: str) -> tuple[Descriptor, bytes]:
        """The bytes of a tag's or digest's manifest and their descriptor.

        Raises:
            NotFoundError: there is none.
            TransportError: the bytes are not those of the digest asked for, or announced in the answer.
        """
        with self.request("GET", f"manifests/{which}", headers=_ACCEPT) as response:
            if response.status == 404:
                raise self._missing(which)
            self.expect(response, 200)
            data = response.read(MAX_DOCUMENT)
            announced = response.headers.get("Docker-Content-Digest", "")
            media_type = _media_type(response)
        digest = digest_of(data)
        for wanted in (which if ":" in which else "", announced):
            if wanted.startswith("sha256:") and wanted != digest:
                raise TransportError(
                    f"{self.name}: the manifest {which} is not what its digest says: {digest}, not {wanted!r}",
                    hint="the registry, a proxy or a mirror changed it",
                )
        if not (is_manifest(media_type) or is_index(media_type)):
            # Some servers call everything application/json or octet-stream.
            media_type = stated_type(data) or media_type
        return Descriptor(media_type, digest, len(data)), data

    def put_manifest(self, which: str, media_type: str, data: bytes) -> None:
        """Store a manifest under a tag or its digest."""
        headers = {"Content-Type": media_type}
        with self.request("PUT", f"manifests/{which}", headers=headers, body=data, push=True) as response:
            self.expect(response, 201)
            stored = response.headers.get("Docker-Content-Digest")
        if stored and stored != digest_of(data):
            raise TransportError(
                f"{self.name}: the registry stored {which} as {stored!r}, not {digest_of(data)}"
            )

    def tags(self) -> Iterator[str]:
        """All tags, as the registry orders them, page by page."""
        url: str | None = f"{self._url('tags/list')}?n=1000"
        count = 0
        while url:
            with self.request("GET", url) as response:
                if response.status == 404:
                    raise NotFoundError(f"{self.name}: no such repository, or none that you may see")
                self.expect(response, 200)
                found = _loads(response.read(MAX_DOCUMENT)).get("tags") or []
                link = _NEXT.search(response.headers.get("Link", ""))
                url = urljoin(response.url, link[1]) if link and found else None
            for tag in found:
                count += 1
                if not isinstance(tag, str) or count > MAX_TAGS:
                    raise TransportError(f"{self.name}: its list of tags is not understood")
                yield tag

    # Blobs

    def has_blob(self, digest: Digest) -> bool:
        """Whether the registry has a blob in this repository."""
        with self.request("HEAD", f"blobs/{digest}") as response:
            if response.status not in (200, 404):
                self.expect(response, 200)
            return response.status == 200

    def read_blob(
        self, descriptor: Descriptor, stop: threading.Event | None = None
    ) -> Generator[bytes, None, None]:
        """The bytes of a blob, ``descriptor.size`` of them; not verified yet, for only the whole can be."""

        def get(headers: Mapping[str, str]) -> Response:
            response = self.request("GET", f"blobs/{descriptor.digest}", headers=headers, stop=stop)
            if response.status == 404:
                response.close()
                raise NotFoundError(f"{self.name}: the registry has no blob {descriptor.digest}")
            self.expect(response, 200, 206)
            return response

        return download(get, size=descriptor.size, immutable=True, patience=self.client.patience, stop=stop)

    # Requests

    def request(
        self,
        method: str,
        what: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body = None,
        push: bool = False,
        mount_from: str | None = None,
        attempts: int | None = None,
        stop: threading.Event | None = None,
    ) -> Response:
        """Send a request, answering a challenge once. ``what`` is a part of this repository or a whole URL.

        A URL of another origin (an upload that the registry sends elsewhere) gets no credentials. A redirect's
        target is on its own: a 401 from there is an error, not a challenge to us.

        Raises:
            TransportError: no answer, or access is denied.
        """
        base, authorizer = self._host.base(), self._host.authorizer
        url = what if "://" in what else self._url(what)
        ours = origin(url) == origin(base)
        scopes = self._scopes(push=push, mount_from=mount_from)
        given = authorizer.authorization(scopes) if ours else None
        for again in (True, False):
            sent = {**(headers or {}), **({"Authorization": given} if given else {})}
            response = self.client.request(method, url, headers=sent, body=body, attempts=attempts, stop=stop)
            if response.status != 401 or not again or not ours or origin(response.url) != origin(base):
                break
            authorizer.challenged(response)
            response.close()
            renewed = authorizer.authorization(scopes, rejected=given)
            if renewed is None or (renewed == given and renewed.startswith("Basic")):
                raise self._denied(401, "")
            given = renewed
        if response.status in (401, 403):
            with response:
                raise self._denied(response.status, _reason(response))
        return response

    def expect(self, response: Response, *statuses: int) -> None:
        """Raise TransportError, and close ``response``, unless it has one of ``statuses``."""
        if response.status in statuses:
            return
        with response:
            reason = _reason(response)
        said = f": {reason}" if reason else ""
        hint = {
            405: "the registry may be read-only",
            413: "a proxy in front of the registry limits the size of a request",
            429: "the registry limits how much may be asked for; log in, or try later",
        }.get(response.status, "")
        raise TransportError(
            f"{self.name}: {redacted(response.url)} answered {response.status}{said}", hint=hint
        )

    def _scopes(self, *, push: bool, mount_from: str | None) -> tuple[str, ...]:
        scope = f"repository:{self.path}:pull" + (",push" if push else "")
        return (scope, f"repository:{mount_from}:pull") if mount_from else (scope,)

    def _url(self, what: str) -> str:
        return f"{self._host.base()}/v2/{self.path}/{what}"

    def _missing(self, which: str) -> NotFoundError:
        return NotFoundError(f"no image {self.name}{'@' if ':' in which else ':'}{which} at the registry")

    def _denied(self, status: int, reason: str) -> TransportError:
        said = f": {reason}" if reason else ""
        domain = self.name.partition("/")[0]
        if self._host.authorizer.anonymous:
            hint = f"there is no such repository, or it needs a login: `layersmith login {domain}`"
        else:
            hint = "the credentials in use don't allow this, or there is no such repository"
        return TransportError(f"{self.name}: the registry denied access ({status}){said}", hint=hint)


_ACCEPT = {"Accept": ", ".join(ACCEPT_MANIFEST)}


def _media_type(response: Response) -> str:
    return response.headers.get("Content-Type", "").partition(";")[0].strip()


def stated_type(data: bytes) -> str:
    """The ``mediaType`` that a manifest gives itself; ``""`` if none."""
    stated = _loads(data).get("mediaType")
    return stated if isinstance(stated, str) else ""


def _loads(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _reason(response: Response) -> str:
    """What the registry says went wrong (spec "Error Codes"), made fit for a terminal."""
    try:
        errors = _loads(response.read(1 << 16)).get("errors")
    except TransportError:
        return ""
    first = errors[0] if isinstance(errors, list) and errors else None
    if not isinstance(first, dict):
        return ""
    text = " ".join(str(first[key]) for key in ("code", "message") if first.get(key))
    return "".join(c if c.isprintable() else " " for c in text)[:300]
