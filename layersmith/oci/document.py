"""JSON documents of the OCI specifications: written canonically, read strictly.

In: bytes from anywhere. Out: `Fields`, which hands out values of the type asked for or raises.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from layersmith.errors import TransportError

MAX_DOCUMENT = 16 << 20
"""Bytes of the longest manifest, index or config that is read; registries allow 4 MiB."""

Annotations = tuple[tuple[str, str], ...]


def canonical(value: Any) -> bytes:
    """``value`` as JSON: the same bytes on every machine (sorted keys, no blanks, UTF-8).

    Bytes of an environment that are not UTF-8 arrive as lone surrogates; these become JSON escapes, which is what
    ``backslashreplace`` happens to write.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace")


def parse_object(data: bytes, what: str) -> Fields:
    """The JSON object in ``data``; ``what`` names it in errors.

    Raises:
        TransportError: too long, not UTF-8, not JSON, nested too deeply, or not an object.
    """
    if len(data) > MAX_DOCUMENT:
        raise TransportError(f"{what} is {len(data)} bytes long", hint=f"at most {MAX_DOCUMENT} are read")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise TransportError(f"{what} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise TransportError(f"{what} is not a JSON object")
    return Fields(value, what)


class Fields:
    """A JSON object whose members are taken by type. A member that is missing or null gives the default."""

    __slots__ = ("_value", "_what")

    def __init__(self, value: Mapping[str, Any], what: str) -> None:
        self._value = value
        self._what = what

    def wrong(self, key: str, wanted: str) -> TransportError:
        """The error for a member that is not ``wanted``."""
        return TransportError(f"{self._what}: {key!r} is not {wanted}")

    def text(self, key: str, default: str = "") -> str:
        """A string."""
        value = self._value.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.wrong(key, "a string")
        return value

    def required(self, key: str) -> str:
        """A string that must be there and not be empty."""
        value = self.text(key)
        if not value:
            raise TransportError(f"{self._what}: {key!r} is missing")
        return value

    def integer(self, key: str, default: int = 0) -> int:
        """A whole number."""
        value = self._value.get(key)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wrong(key, "a whole number")
        return value

    def boolean(self, key: str) -> bool:
        """True or false; False where missing."""
        value = self._value.get(key)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings; empty where missing."""
        value = self._value.get(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.wrong(key, "a list of strings")
        return tuple(value)

    def pairs(self, key: str) -> Annotations:
        """An object of strings as pairs sorted by name."""
        value = self._value.get(key)
        if value is None:
            return ()
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise self.wrong(key, "an object of strings")
        return tuple(sorted(value.items()))

    def names(self, key: str) -> tuple[str, ...]:
        """The sorted names of an object whose values mean nothing (``ExposedPorts``, ``Volumes``)."""
        value = self._value.get(key)
        if value is None:
            return ()
        if not isinstance(value, dict):
            raise self.wrong(key, "an object")
        return tuple(sorted(value))

    def object(self, key: str) -> Fields | None:
        """A nested object, or None where missing."""
        value = self._value.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.wrong(key, "an object")
        return Fields(value, f"{self._what}: {key!r}")

    def objects(self, key: str) -> tuple[Fields, ...]:
        """A list of objects; empty where missing."""
        value = self._value.get(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.wrong(key, "a list of objects")
        return tuple(Fields(item, f"{self._what}: {key}[{number}]") for number, item in enumerate(value))

    def has(self, key: str) -> bool:
        """Whether the member is there and not null."""
        return self._value.get(key) is not None

    def others(self, known: frozenset[str]) -> tuple[tuple[str, str], ...]:
        """Members that are not ``known`` and not null, as sorted pairs of name and canonical JSON text."""
        return tuple(
            (key, canonical(value).decode())
            for key, value in sorted(self._value.items())
            if key not in known and value is not None
        )
