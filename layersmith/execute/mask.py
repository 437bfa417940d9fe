"""EXECUTE: hiding secrets in output. In: pieces of output. Out: the same with every secret as ``***``."""

from __future__ import annotations

import re

MASKED = b"***"
SHORTEST = 4
"""Shorter values are words of any output, and hiding them would only make it unreadable."""


class Mask:
    """Masks ``secrets`` in several streams; a secret cut in two by the pieces is found as well.

    A secret of several lines is also masked line by line, for that is how tools print it.
    """

    def __init__(self, secrets: list[bytes]) -> None:
        values = {part.strip() for secret in secrets for part in (secret, *secret.splitlines())}
        self._values = sorted((v for v in values if len(v) >= SHORTEST), key=len, reverse=True)
        self._pattern = re.compile(b"|".join(re.escape(v) for v in self._values))
        self._held: dict[int, bytes] = {}

    def feed(self, stream: int, data: bytes) -> bytes:
        """What of ``stream`` can be shown now that ``data`` has come."""
        if not self._values:
            return data
        text = self._pattern.sub(MASKED, self._held.pop(stream, b"") + data)
        keep = self._unfinished(text)
        if keep:
            self._held[stream] = text[-keep:]
            return text[:-keep]
        return text

    def flush(self, stream: int) -> bytes:
        """What is left of ``stream`` at its end."""
        return self._held.pop(stream, b"")

    def _unfinished(self, text: bytes) -> int:
        """The length of the longest end of ``text`` that a secret could begin with."""
        for value in self._values:
            for length in range(min(len(value) - 1, len(text)), 0, -1):
                if text.endswith(value[:length]):
                    return length
        return 0
