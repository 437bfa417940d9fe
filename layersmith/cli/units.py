"""Sizes, rates and times as people read them. In: numbers. Out: text."""

from __future__ import annotations


def human_size(size: float) -> str:
    """``1536`` as ``1.5KB``: powers of 1000, as docker prints them."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f}{unit}" if unit == "B" or size >= 100 else f"{size:.1f}{unit}"
        size /= 1000
    return f"{size:.1f}TB"


def human_seconds(seconds: float) -> str:
    """``75.31`` as ``1m15s``, ``3.14159`` as ``3.1s``."""
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}h{minutes:02}m{left:02}s" if hours else f"{minutes}m{left:02}s"
