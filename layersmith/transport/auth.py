"""Credentials for registries, where people already keep them.

In: $REGISTRY_AUTH_FILE alone if set; else podman's auth.json, then Docker's config.json ($DOCKER_CONFIG, ~/.docker), with
the credential helpers that they name. Out: `Credentials` for a registry, which show themselves in no repr and no error.
"""

from __future__ import annotations

import base64
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from layersmith.dataclass import dataclass, field
from layersmith.errors import TransportError, UsageError
from layersmith.oci.reference import DEFAULT_DOMAIN
from layersmith.transport.credential_helper import CredentialHelper

HUB_KEYS = ("https://index.docker.io/v1/", "docker.io", "index.docker.io", "registry-1.docker.io")
"""Docker Hub has been written in all these ways; Docker itself still writes the first."""

TOKEN_USER = "<token>"
"""The user name by which a credential helper says that the secret is an identity token."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name and a password, or an ``identity_token`` (OAuth2 refresh token), or a ready ``registry_token``."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    def basic(self) -> str:
        """The value of an Authorization header (RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


def parse_credentials(text: str) -> Credentials:
    """``user:password``, as ``--creds`` takes it. Raises UsageError, which does not repeat ``text``."""
    username, colon, password = text.partition(":")
    if not colon or not username:
        raise UsageError("credentials are written user:password")
    return Credentials(username, password)


class Keychain:
    """The files above. ``override`` (``--creds``) is given out for every registry instead."""

    def __init__(
        self, environ: Mapping[str, str] = os.environ, *, override: Credentials | None = None
    ) -> None:
        self._environ = environ
        self._override = override

    def get(self, domain: str, path: str = "") -> Credentials | None:
        """The credentials for ``domain`` and the repository ``path``; podman's files may name a part of a registry.

        Raises:
            TransportError: a file is not JSON or a helper fails; a file that can't be read counts as absent.
        """
        if self._override:
            return self._override
        for file in self._files():
            if found := file.get(domain, path):
                return found
        return None

    def store(self, domain: str, credentials: Credentials) -> str:
        """Keep ``credentials`` for ``domain`` where Docker, podman and skopeo find them too; says where that is."""
        file = self._files()[-1]
        key = _names(domain)[0]
        if helper := file.helper(domain):
            helper.store(key, credentials.username, credentials.password)
            return str(helper)
        pair = f"{credentials.username}:{credentials.password}".encode()
        file.auths()[key] = {"auth": base64.b64encode(pair).decode()}
        file.write()
        return str(file.path)

    def erase(self, domain: str) -> tuple[str, ...]:
        """Forget ``domain`` everywhere; says where it was known."""
        places = []
        for file in self._files():
            helper, server = file.helper(domain), _names(domain)[0]
            if helper and helper.get(server):
                helper.erase(server)
                places.append(str(helper))
            known = [key for key in file.auths() if _host(key) in map(_host, _names(domain))]
            for key in known:
                del file.auths()[key]
            if known:
                file.write()
                places.append(str(file.path))
        return tuple(places)

    def _files(self) -> list[AuthFile]:
        """In the order of reading; the last is written to."""
        if explicit := self._environ.get("REGISTRY_AUTH_FILE"):
            return [AuthFile.read(Path(explicit))]
        home = Path(self._environ.get("HOME") or "/")
        runtime = self._environ.get("XDG_RUNTIME_DIR")
        config = Path(self._environ.get("XDG_CONFIG_HOME") or home / ".config")
        paths = [
            Path(runtime, "containers/auth.json")
            if runtime
            else Path(f"/run/containers/{os.geteuid()}/auth.json"),
            config / "containers/auth.json",
            Path(self._environ.get("DOCKER_CONFIG") or home / ".docker") / "config.json",
        ]
        return [AuthFile.read(path) for path in paths]


@dataclass(slots=True)
class AuthFile:
    """One config.json or auth.json; ``document`` may hold anything else too, which is kept."""

    path: Path
    document: dict[str, Any] = field(repr=False)
    readable: bool = True

    @classmethod
    def read(cls, path: Path) -> AuthFile:
        """Raises TransportError unless the file holds a JSON object, is empty, or can't be read."""
        try:
            text = path.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return cls(path, {})
        except OSError:
            return cls(path, {}, readable=False)
        except ValueError:
            text = "?"
        try:
            document = json.loads(text) if text.strip() else {}
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise TransportError(
                f"{path} is not a JSON object", hint="mend it, or move it away and log in again"
            )
        return cls(path, document)

    def auths(self) -> dict[str, Any]:
        """The object ``auths``, made if missing."""
        auths = self.document.setdefault("auths", {})
        if not isinstance(auths, dict):
            raise TransportError(f"{self.path}: 'auths' is not an object")
        return auths

    def get(self, domain: str, path: str) -> Credentials | None:
        """The entry for the longest part of ``domain/path`` that has one, from its helper or from ``auths``."""
        entries = map(self._entry, _parts(domain, path))
        if particular := next(filter(None, map(_decode, entries)), None):
            return particular
        helper, server = self.helper(domain), _names(domain)[0]
        if helper and (found := helper.get(server)):
            username, secret = found
            return (
                Credentials(identity_token=secret)
                if username == TOKEN_USER
                else Credentials(username, secret)
            )
        return next(filter(None, map(_decode, map(self._entry, _names(domain)))), None)

    def helper(self, domain: str) -> CredentialHelper | None:
        """The helper of ``credHelpers`` for ``domain``, else that of ``credsStore``."""
        helpers = self.document.get("credHelpers")
        names = (
            [helpers[key] for key in _names(domain) if key in helpers] if isinstance(helpers, dict) else []
        )
        name = names[0] if names else self.document.get("credsStore")
        return CredentialHelper(name) if isinstance(name, str) and name else None

    def write(self) -> None:
        """Replace the file at once, with mode 0600. Raises TransportError."""
        if not self.readable:
            raise TransportError(f"{self.path} can't be read, so it is not replaced")
        target = self.path.resolve()
        try:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=".auth-", dir=target.parent)
            try:
                with open(handle, "w", encoding="utf-8") as file:
                    json.dump(self.document, file, indent="\t")
                    file.write("\n")
                    file.flush()
                    os.fsync(file.fileno())
                Path(name).rename(target)
            except BaseException:
                with suppress(FileNotFoundError):
                    Path(name).unlink()
                raise
        except OSError as error:
            raise TransportError(f"{self.path} can't be written: {error.strerror}") from None

    def _entry(self, key: str) -> Any:
        auths = self.auths()
        if key in auths:
            return auths[key]
        # Docker once wrote whole URLs.
        return next((value for name, value in auths.items() if "://" in name and _host(name) == key), None)


def _parts(domain: str, path: str) -> Iterator[str]:
    """``domain/path`` and what is above it, without ``domain`` alone."""
    while path:
        yield f"{domain}/{path}"
        path = path.rpartition("/")[0]


def _names(domain: str) -> tuple[str, ...]:
    """The keys that stand for a whole registry."""
    return HUB_KEYS if domain == DEFAULT_DOMAIN else (domain,)


def _host(key: str) -> str:
    return key.partition("://")[2].partition("/")[0] if "://" in key else key


def _decode(entry: Any) -> Credentials | None:
    if not isinstance(entry, dict):
        return None

    def text(name: str) -> str:
        value = entry.get(name)
        return value if isinstance(value, str) else ""

    username, password = text("username"), text("password")
    if text("auth"):
        try:
            pair = base64.b64decode(text("auth")).decode()
        except ValueError:
            return None
        # Docker pads old entries with NUL.
        username, _, password = pair.rstrip("\0").partition(":")
    found = Credentials(username, password, text("identitytoken"), text("registrytoken"))
    return None if found == Credentials() else found
