"""PARSE: durations, sizes and booleans as Go programs write them. In: a text. Out: a number or a bool.

The functions raise ValueError; the callers know what the value was for.
"""

from __future__ import annotations

import re

from layersmith.buildfile.suggest import shown

MILLISECOND = 1_000_000
SECOND = 1_000_000_000

_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": MILLISECOND,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3600 * SECOND,
}
_DURATION_PART = re.compile(r"(\d*)(?:\.(\d*))?(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_LONGEST_DURATION = (1 << 63) - 1

_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(?:([kmgtp])(?:i?b)?|b)?", re.ASCII | re.IGNORECASE)
_SIZE_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


def parse_duration(text: str) -> int:
    """Nanoseconds of ``1h30m``, ``1.5s``, ``-2us``, ``0`` (Go's time.ParseDuration)."""
    sign, rest = (-1, text[1:]) if text[:1] == "-" else (1, text[1:] if text[:1] == "+" else text)
    if rest == "0":
        return 0
    total, position = 0, 0
    while position < len(rest):
        match = _DURATION_PART.match(rest, position)
        if not match or not (match[1] or match[2]) or len(match[1]) > 20:
            break
        unit = _UNITS[match[3]]
        fraction = (match[2] or "")[:18]
        total += int(match[1] or 0) * unit + int(fraction or 0) * unit // 10 ** len(fraction)
        position = match.end()
    if not rest or position < len(rest) or total > _LONGEST_DURATION:
        raise ValueError(f"{shown(text)} is not a duration such as 30s, 1m30s or 500ms")
    return sign * total


def format_duration(nanoseconds: int) -> str:
    """The shortest text of one unit that `parse_duration` reads back."""
    for unit in ("h", "m", "s", "ms", "us"):
        if nanoseconds and nanoseconds % _UNITS[unit] == 0:
            return f"{nanoseconds // _UNITS[unit]}{unit}"
    return f"{nanoseconds}ns" if nanoseconds else "0"


def parse_size(text: str) -> int:
    """Bytes of ``1024``, ``64m``, ``1.5GiB``: powers of 1024 (docker/go-units' RAMInBytes)."""
    match = _SIZE.fullmatch(text)
    if not match or len(text) > 40:
        raise ValueError(f"{shown(text)} is not a size such as 65536, 64m or 1g")
    return int(float(match[1]) * 1024 ** _SIZE_POWERS[(match[2] or "").lower()])


def parse_bool(text: str) -> bool:
    """``true``, ``1``, ``F`` and their like (Go's strconv.ParseBool)."""
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise ValueError(f"{shown(text)} is neither true nor false")
