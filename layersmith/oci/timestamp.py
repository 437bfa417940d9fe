"""Times as configs and manifests have them (RFC 3339). In: seconds since the epoch, or text. Out: the other."""

from __future__ import annotations

import time


def rfc3339(seconds: float) -> str:
    """``2026-01-31T12:00:00Z``: UTC, in whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(seconds)))


def parse_rfc3339(text: str) -> float | None:
    """Seconds since the epoch; None for what is no time."""
    from datetime import datetime

    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return None
