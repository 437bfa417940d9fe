"""Times as configs and manifests have them (RFC 3339). In: seconds since the epoch. Out: text."""

from __future__ import annotations

import time


def rfc3339(seconds: float) -> str:
    """``2026-01-31T12:00:00Z``: UTC, in whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(seconds)))
