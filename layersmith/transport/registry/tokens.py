"""Who we are at one registry: answers its challenges, and keeps the tokens it gave until they expire.

In: a request's URL and scopes, and the challenge of a 401. Out: the value of the Authorization header, or None.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from urllib.parse import urlencode, urlsplit, urlunsplit

from layersmith.dataclass import dataclass, field
from layersmith.errors import TransportError
from layersmith.transport.auth import Credentials
from layersmith.transport.http import Client, Response
from layersmith.transport.registry.challenge import Challenge, parse_challenges
from layersmith.transport.urls import redacted

CLIENT_ID = "layersmith"
LEEWAY = 10
"""Seconds before its end at which a token is no longer used: a request takes time to arrive."""

DEFAULT_LIFE = 60
"""Seconds, where a server doesn't say (distribution, docs/spec/auth/token.md)."""

MAX_TOKEN = 1 << 20


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token and when it ends, in `time.monotonic` seconds."""

    value: str = field(repr=False)
    expires: float


class Authorizer:
    """For one registry. ``credentials`` is asked when the registry wants to know who we are, and at most once."""

    def __init__(self, client: Client, credentials: Callable[[], Credentials | None]) -> None:
        self._client = client
        self._ask = credentials
        self._asked = False
        self._credentials: Credentials | None = None
        self._challenge: Challenge | None = None
        self._tokens: dict[str, Token] = {}
        self._lock = threading.Lock()

    @property
    def anonymous(self) -> bool:
        """Whether there are no credentials for this registry (as far as it has asked for any)."""
        return self._credentials is None

    def challenged(self, response: Response) -> None:
        """Learn what a 401 asks for. Raises TransportError if it is nothing that is spoken here."""
        header = response.headers.get("WWW-Authenticate", "")
        offered = {challenge.scheme: challenge for challenge in reversed(parse_challenges(header))}
        chosen = offered.get("bearer") or offered.get("basic")
        if chosen is None or (chosen.scheme == "bearer" and not chosen.realm):
            asked = ", ".join(sorted(offered)) or "nothing that is understood"
            raise TransportError(f"{redacted(response.url)}: wants authentication by {asked}")
        with self._lock:
            self._challenge = chosen

    def authorization(self, scopes: tuple[str, ...], *, rejected: str | None = None) -> str | None:
        """The header for a request that needs ``scopes``; ``rejected`` is one that was just answered with 401.

        Raises:
            TransportError: the token server refuses.
        """
        with self._lock:
            challenge = self._challenge
            if challenge is None:
                return None
            if not self._asked:
                self._credentials, self._asked = self._ask(), True
            if challenge.scheme == "basic":
                return self._credentials.basic() if self._credentials else None
            if self._credentials and self._credentials.registry_token:
                return f"Bearer {self._credentials.registry_token}"
            # One thread fetches while the others wait: they all need the same token.
            key = " ".join(scopes)
            token = self._tokens.get(key)
            if token is None or time.monotonic() >= token.expires or rejected == f"Bearer {token.value}":
                token = self._tokens[key] = self._fetch(challenge, scopes)
            return f"Bearer {token.value}"

    def _fetch(self, challenge: Challenge, scopes: tuple[str, ...]) -> Token:
        with self._request(challenge, scopes) as response:
            if response.status != 200:
                raise TransportError(
                    f"{redacted(challenge.realm)}: gave no token ({response.status})",
                    hint="check the user name and the password"
                    if self._credentials
                    else "this may need a login",
                )
            document = response.read(MAX_TOKEN)
        try:
            answer = json.loads(document)
            value = answer.get("token") or answer.get("access_token")
            life = float(answer.get("expires_in") or DEFAULT_LIFE)
        except (ValueError, TypeError, AttributeError):
            value, life = None, 0.0
        # Anything but visible ASCII would break out of the header.
        if not isinstance(value, str) or not value.isascii() or not value.isprintable():
            raise TransportError(f"{redacted(challenge.realm)}: its answer holds no token")
        return Token(value, time.monotonic() + max(life - LEEWAY, life / 2))

    def _request(self, challenge: Challenge, scopes: tuple[str, ...]) -> Response:
        """By OAuth2 with an identity token, else by GET, with Basic if there is a password (distribution's auth docs)."""
        known = self._credentials
        if known and known.identity_token:
            form = {
                "grant_type": "refresh_token",
                "service": challenge.service,
                "client_id": CLIENT_ID,
                "scope": " ".join(scopes),
                "refresh_token": known.identity_token,
            }
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            return self._client.request(
                "POST", challenge.realm, headers=headers, body=urlencode(form).encode()
            )
        query = [("service", challenge.service)] if challenge.service else []
        query += [("scope", scope) for scope in scopes]
        headers = {}
        if known:
            query.append(("account", known.username))
            headers["Authorization"] = known.basic()
        parts = urlsplit(challenge.realm)
        joined = "&".join(filter(None, (parts.query, urlencode(query))))
        return self._client.request("GET", urlunsplit(parts._replace(query=joined)), headers=headers)
