"""PATIENCE: how long to wait for a server, and how often to try again. In: what happened. Out: seconds, or an error."""

from __future__ import annotations

import random
import threading
import time
from email.utils import parsedate_to_datetime

from layersmith.dataclass import dataclass
from layersmith.errors import Cancelled


@dataclass(frozen=True, slots=True)
class Patience:
    """When to give up. Times in seconds; ``slowest`` is in bytes a second, over ``slow_window``."""

    connect: float = 15
    read: float = 60
    attempts: int = 6
    first_wait: float = 0.5
    longest_wait: float = 120
    slow_window: float = 30
    slowest: int = 64

    def backoff(self, failures: int) -> float:
        """How long to wait after so many ``failures`` in a row: ever longer, and never in step with other clients."""
        return min(self.first_wait * 2.0 ** (failures - 1), 30.0) * random.uniform(0.75, 1.25)


def pause(seconds: float, stop: threading.Event | None) -> None:
    """Sleep, but no longer than until ``stop`` is set. Raises Cancelled then."""
    if stop is None:
        time.sleep(seconds)
    else:
        stop.wait(seconds)
    check(stop)


def check(stop: threading.Event | None) -> None:
    """Raise Cancelled if ``stop`` is set."""
    if stop is not None and stop.is_set():
        raise Cancelled("the transfer was stopped")


def retry_after(value: str, now: float) -> float | None:
    """Seconds from ``now`` (Unix time) that a Retry-After header asks to wait (RFC 9110 10.2.3), or None."""
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except ValueError:
        return None
