"""WWW-Authenticate: what a server wants to see before it answers (RFC 9110 11.6.1, distribution's token spec).

In: the header. Out: `Challenge` values.
"""

from __future__ import annotations

import re

from layersmith.dataclass import dataclass

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_SCHEME = re.compile(rf"\s*({_TOKEN})(?:\s+|$|(?=,))")
_PARAMETER = re.compile(rf'\s*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))\s*(?:,|$)')


@dataclass(frozen=True, slots=True)
class Challenge:
    """A ``scheme`` in lower case (``basic``, ``bearer``) and the parameters that registries use; empty if missing."""

    scheme: str
    realm: str = ""
    service: str = ""
    scope: str = ""


def parse_challenges(header: str) -> tuple[Challenge, ...]:
    """All challenges in a header; what is malformed ends the list."""
    found = []
    position = 0
    while scheme := _SCHEME.match(header, position):
        position = scheme.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(header, position):
            position = parameter.end()
            quoted, plain = parameter[2], parameter[3]
            parameters[parameter[1].lower()] = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        found.append(
            Challenge(
                scheme[1].lower(),
                parameters.get("realm", ""),
                parameters.get("service", ""),
                parameters.get("scope", ""),
            )
        )
        comma = re.compile(r"\s*,").match(header, position)
        position = comma.end() if comma else position
    return tuple(found)
