"""A registry's host: found out once how to speak with it. In: base URLs to try. Out: the one that answers, and who we are."""

from __future__ import annotations

import threading

from layersmith.errors import TransportError
from layersmith.transport.http import Client
from layersmith.transport.registry.tokens import Authorizer
from layersmith.transport.urls import redacted


class Host:
    """``bases`` are tried in order, once; a host that does not answer is not asked again."""

    def __init__(self, client: Client, bases: tuple[str, ...], authorizer: Authorizer) -> None:
        self.client = client
        self.authorizer = authorizer
        self._bases = bases
        self._base: str | None = None
        self._failure: TransportError | None = None
        self._lock = threading.Lock()

    def base(self) -> str:
        """``scheme://host[:port]``. Raises TransportError when nobody answers there."""
        with self._lock:
            if self._base is None:
                if self._failure:
                    raise TransportError(self._failure.message, hint=self._failure.hint)
                self._base = self._find()
            return self._base

    def _find(self) -> str:
        for base in self._bases:
            try:
                self._ping(base)
                return base
            except TransportError as error:
                self._failure = self._failure or error
        assert self._failure is not None
        raise self._failure

    def _ping(self, base: str) -> None:
        """GET /v2/ (spec end-1), without credentials, whose answer also says how to authenticate."""
        attempts = None if base == self._bases[-1] else 3
        with self.client.request("GET", f"{base}/v2/", attempts=attempts) as response:
            if response.status == 401:
                self.authorizer.challenged(response)
            # What servers say on a TLS port to somebody who speaks plain http is 400.
            elif response.status >= 500 or response.status == 400:
                raise TransportError(f"{base}/v2/: answered {response.status}")

    def check_login(self) -> None:
        """Raise TransportError unless the registry accepts the credentials."""
        url = f"{self.base()}/v2/"
        given = self.authorizer.authorization(())
        with self.client.request("GET", url, headers={"Authorization": given} if given else {}) as response:
            if response.status in (401, 403):
                raise TransportError(
                    f"{redacted(url)}: the registry refused the login ({response.status})",
                    hint="check the user name and the password",
                )
