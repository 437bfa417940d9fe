"""The protocol of docker-credential-* programs (github.com/docker/docker-credential-helpers).

In: a server's name, and for `store` its credentials, on the helper's standard input. Out: (user name, secret), or None.
"""

from __future__ import annotations

import json
import re
import subprocess

from layersmith.dataclass import dataclass
from layersmith.errors import TransportError

TIMEOUT = 60
"""Seconds: a helper may ask a person to unlock a keychain."""

_UNKNOWN = ("credentials not found", "credentials server URL")


@dataclass(frozen=True, slots=True)
class CredentialHelper:
    """``docker-credential-<name>``, found on PATH."""

    name: str

    def __str__(self) -> str:
        return f"docker-credential-{self.name}"

    def get(self, server: str) -> tuple[str, str] | None:
        """User name and secret, or None if the helper knows none. Raises TransportError when it fails."""
        output = self._run("get", server)
        if output is None:
            return None
        try:
            answer = json.loads(output)
            username, secret = answer["Username"], answer["Secret"]
        except (ValueError, TypeError, KeyError):
            raise TransportError(f"{self}: its answer for {server} is not understood") from None
        if not isinstance(username, str) or not isinstance(secret, str):
            raise TransportError(f"{self}: its answer for {server} is not understood")
        return (username, secret) if username or secret else None

    def store(self, server: str, username: str, secret: str) -> None:
        """Keep credentials. Raises TransportError."""
        self._run("store", json.dumps({"ServerURL": server, "Username": username, "Secret": secret}))

    def erase(self, server: str) -> None:
        """Forget credentials. Raises TransportError."""
        self._run("erase", server)

    def _run(self, verb: str, given: str) -> str | None:
        if not re.fullmatch(r"[A-Za-z0-9._-]+", self.name):
            raise TransportError(f"{self.name!r} is not the name of a credential helper")
        try:
            done = subprocess.run(
                [str(self), verb], input=given, capture_output=True, text=True, timeout=TIMEOUT, check=False
            )
        except FileNotFoundError:
            raise TransportError(
                f"{self} is not installed", hint="the registry configuration names it as credential helper"
            ) from None
        except (OSError, ValueError) as error:
            raise TransportError(f"{self} can't be run: {type(error).__name__}") from None
        except subprocess.TimeoutExpired:
            raise TransportError(f"{self} {verb}: no answer in {TIMEOUT} s") from None
        if done.returncode == 0:
            return done.stdout
        # Helpers report on standard output, where `get` also puts the secret; so only what is known is repeated.
        if any(text in done.stdout for text in _UNKNOWN):
            return None
        raise TransportError(f"{self} {verb} failed with status {done.returncode}")
