"""How a layer's tar is compressed. In: a name such as ``zstd:3`` or a media type. Out: byte streams."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol


class Compressor(Protocol):
    """Takes the tar's bytes in pieces, gives compressed bytes back (perhaps none yet)."""

    def compress(self, data: bytes | memoryview, /) -> bytes: ...
    def flush(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Compression:
    """``algorithm`` is ``zstd``, ``gzip`` or ``none``; ``level`` None is the algorithm's default (zstd 3, gzip 1)."""

    algorithm: str = "zstd"
    level: int | None = None

    @property
    def media_type(self) -> str:
        """The media type of a layer that is compressed so (image-spec layer.md)."""
        raise NotImplementedError

    def describe(self) -> str:
        """All that the bytes depend on, such as ``zstd -3 libzstd 1.5.7``: for cache keys and records."""
        raise NotImplementedError

    def compressor(self) -> Compressor:
        """A new one; the bytes it gives don't depend on the number of threads or processors."""
        raise NotImplementedError


def parse_compression(text: str) -> Compression:
    """``zstd``, ``zstd:19``, ``gzip:2``, ``none``. Raises UsageError."""
    raise NotImplementedError


def decompress(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The plain bytes of a gzip, zstd, bzip2, xz or plain stream, told apart by its magic number.

    Takes several members or frames in a row. Raises TransportError for damaged or truncated data.
    """
    raise NotImplementedError
