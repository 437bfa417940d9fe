"""`Reference`: the name of an image, by the grammar and the defaults of distribution/reference.

``alpine`` is ``docker.io/library/alpine:latest``. Two forms go out: `str` is the full name, `Reference.familiar` what a
person writes, which is also the name in the store.
"""

from __future__ import annotations

import re

from layersmith.dataclass import dataclass, replace
from layersmith.errors import TransportError, UsageError
from layersmith.oci.digest import Digest, parse_digest

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
_OFFICIAL = "library/"

_DOMAIN_PART = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_HEX_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Reference:
    """``domain/path[:tag][@digest]``; ``tag`` is None only where there is a digest."""

    domain: str
    path: str
    tag: str | None = None
    digest: Digest | None = None

    @property
    def name(self) -> str:
        """Domain and path."""
        return f"{self.domain}/{self.path}"

    def familiar(self) -> str:
        """The short form: without Docker Hub's domain and ``library/``, with the tag."""
        name = self.name
        if self.domain == DEFAULT_DOMAIN:
            name = self.path
            if name.startswith(_OFFICIAL) and "/" not in name.removeprefix(_OFFICIAL):
                name = name.removeprefix(_OFFICIAL)
        return name + self._suffix()

    def with_tag(self, tag: str) -> Reference:
        """The same name under ``tag``, and no digest."""
        return replace(self, tag=tag, digest=None)

    def with_digest(self, digest: Digest) -> Reference:
        """The same name by digest only."""
        return replace(self, tag=None, digest=digest)

    def __str__(self) -> str:
        return self.name + self._suffix()

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse_reference(text: str) -> Reference:
    """The reference that ``text`` means; a missing tag is ``latest`` unless there is a digest.

    Raises:
        UsageError: ``text`` is not an image name.
    """
    rest, at, digest_text = text.partition("@")
    try:
        digest = parse_digest(digest_text) if at else None
    except TransportError as error:
        raise UsageError(f"invalid image name {text!r}: {error.message}", hint=error.hint) from None
    tag: str | None = None
    head, colon, last = rest.rpartition(":")
    if colon and "/" not in last:
        rest, tag = head, last
        if not _TAG.fullmatch(tag):
            raise _invalid(
                text, f"{tag!r} is not a tag", "a tag has letters, digits, '_', '.' and '-', 128 at most"
            )
    domain, path = _split_domain(rest)
    if not _DOMAIN.fullmatch(domain):
        raise _invalid(text, f"{domain!r} is not a host name")
    if not _PATH.fullmatch(path):
        if path != path.lower() and _PATH.fullmatch(path.lower()):
            raise _invalid(text, "image names are lower-case", f"write {text.replace(path, path.lower())}")
        raise _invalid(text, f"{path!r} is not a repository name")
    if len(domain) + 1 + len(path) > 255:
        raise _invalid(text, "it is longer than 255 characters")
    if _HEX_ID.fullmatch(rest):
        raise _invalid(text, "64 hexadecimal digits are an id, not a name", "write NAME@sha256:DIGITS")
    if tag is None and digest is None:
        tag = DEFAULT_TAG
    return Reference(domain, path, tag, digest)


def _split_domain(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    is_domain = slash and (any(c in first for c in ".:[") or first == "localhost" or first != first.lower())
    if not is_domain:
        domain, path = DEFAULT_DOMAIN, name
    else:
        domain, path = ("docker.io" if first == "index.docker.io" else first), rest
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = _OFFICIAL + path
    return domain, path


def _invalid(text: str, why: str, hint: str = "") -> UsageError:
    return UsageError(f"invalid image name {text!r}: {why}", hint=hint)
