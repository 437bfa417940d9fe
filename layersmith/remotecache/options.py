"""``--cache-to`` and ``--cache-from``. In: their text. Out: a `CacheOption`, checked.

The types and attributes are docker buildx's; a text without ``type=`` is the name of an image, as in docker and buildah.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping

from layersmith.dataclass import dataclass, field
from layersmith.errors import UsageError

TYPES = ("registry", "local", "tar", "inline", "s3", "fsspec")

_TO = {
    "registry": {"ref"},
    "local": {"dest", "tag"},
    "tar": {"dest", "tag"},
    "inline": set[str](),
    "s3": {"bucket", "prefix", "name", "region", "endpoint_url", "access_key_id", "secret_access_key"},
    "fsspec": {"url", "name"},
}
_FROM = {**_TO, "local": {"src", "tag", "digest"}, "tar": {"src", "tag", "digest"}}
_NEEDED = {"registry": "ref", "s3": "bucket", "fsspec": "url"}
_ALWAYS = {"oci-mediatypes": "true", "image-manifest": "true"}
"""What docker leaves to its user and is always so here: any other value is an error."""


@dataclass(frozen=True, slots=True)
class CacheOption:
    """One place of a cache. ``max``: every step's records, not only those of the result; only for ``--cache-to``."""

    type: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    max: bool = False
    ignore_error: bool = False

    @property
    def tag(self) -> str:
        """What the cache is called among others in the same place."""
        return self.attributes.get("tag") or self.attributes.get("name") or "latest"


def parse_cache_to(text: str) -> CacheOption:
    """``type=registry,ref=NAME,mode=max``. Raises UsageError."""
    return _parse(text, "--cache-to", _TO, _NEEDED | {"local": "dest", "tar": "dest"})


def parse_cache_from(text: str) -> CacheOption:
    """``type=local,src=DIR``. Raises UsageError."""
    option = _parse(text, "--cache-from", _FROM, _NEEDED | {"local": "src", "tar": "src"})
    if option.type == "inline":
        raise UsageError(
            f"--cache-from {text!r}: an inline cache is in its image",
            hint="write --cache-from type=registry,ref=IMAGE",
        )
    return option


def _parse(text: str, flag: str, known: Mapping[str, set[str]], needed: Mapping[str, str]) -> CacheOption:
    words = next(iter(csv.reader([text])), [])
    if len(words) == 1 and "=" not in words[0]:
        return CacheOption("registry", {"ref": words[0]})
    values: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise UsageError(f"{flag} {text!r}: {word!r} is not key=value")
        values[key.strip().lower()] = value
    kind = values.pop("type", "")
    if kind not in TYPES:
        raise UsageError(
            f"{flag} {text!r}: unknown type {kind!r}",
            hint=f"one of {', '.join(TYPES)}; fsspec takes a URL of any store that it knows (gs://, abfs://, …)",
        )
    mode = values.pop("mode", "min") if flag == "--cache-to" else "min"
    if mode not in ("min", "max"):
        raise UsageError(f"{flag} {text!r}: unknown mode {mode!r}", hint="the modes are min and max")
    ignore = values.pop("ignore-error", "false").lower() if flag == "--cache-to" else "false"
    if ignore not in ("true", "false", "1", "0"):
        raise UsageError(f"{flag} {text!r}: ignore-error is neither true nor false")
    for key, value in _ALWAYS.items():
        if values.pop(key, value).lower() != value:
            raise UsageError(f"{flag} {text!r}: a cache is always an OCI image manifest")
    if unknown := sorted(set(values) - known[kind]):
        names = ", ".join(sorted(known[kind])) or "none"
        raise UsageError(
            f"{flag} {text!r}: unknown attribute {unknown[0]!r}", hint=f"type={kind} knows {names}"
        )
    if kind in needed and not values.get(needed[kind]):
        raise UsageError(f"{flag} {text!r}: {needed[kind]} is missing")
    return CacheOption(kind, values, mode == "max", ignore in ("true", "1"))
