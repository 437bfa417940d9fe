"""How a layer's tar is compressed. In: a name such as ``zstd:3``, or a stream. Out: compressed or plain bytes.

The only module that imports zstandard and isal.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from typing import IO, Any, Protocol, cast

from layersmith.dataclass import dataclass
from layersmith.errors import LayersmithError, TransportError, UsageError
from layersmith.layer.entry import Readable
from layersmith.layer.zstdframes import SKIPPABLE, Frames
from layersmith.oci.mediatype import layer_type

DEFAULT_LEVELS = {"zstd": 3, "gzip": 1, "none": 0}
_LEVELS = {"zstd": range(1, 23), "gzip": range(10), "none": range(1)}
_ISAL_LEVELS = range(3)
_QUICK = 4
"""The highest of zstd's levels that are for speed: above it, jobs are as large as libzstd likes them."""
_JOB = 4 << 20
"""Bytes that one zstd thread compresses at a time: half the default, and so half the memory."""
_OVERLAP = 4
"""How much of the job before each job sees (zstd.h: 1/32 of the window): the default, 1/8, costs 5 % more time here."""

_MAX_WINDOW = 1 << 27
"""Bytes of history that a zstd frame may ask for: what the zstd program allows without --long=28 and up."""

_MAGICS = (
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x1f\x8b\x08", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
)


_TAR_MAGIC = b"ustar"
_TAR_MAGIC_END = 257 + 5


class Compressor(Protocol):
    """Takes the tar's bytes in pieces, gives compressed bytes back (perhaps none yet)."""

    def compress(self, data: memoryview, /) -> bytes | memoryview: ...
    def flush(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Compression:
    """``algorithm`` is ``zstd``, ``gzip`` or ``none``; ``level`` None is the algorithm's default (zstd 3, gzip 1)."""

    algorithm: str = "zstd"
    level: int | None = None

    @property
    def media_type(self) -> str:
        """The media type of a layer that is compressed so (image-spec layer.md)."""
        return layer_type(self.algorithm)

    def describe(self) -> str:
        """All that the bytes depend on, such as ``zstd -3 libzstd 1.5.7``: for cache keys and records."""
        level = self._level()
        if self.algorithm == "zstd":
            import zstandard

            return f"zstd -{level} libzstd {'.'.join(map(str, zstandard.ZSTD_VERSION))}"
        if self.algorithm == "gzip":
            if level in _ISAL_LEVELS:
                import isal

                return f"gzip -{level} isa-l {isal.ISAL_VERSION}"
            return f"gzip -{level} zlib {zlib.ZLIB_RUNTIME_VERSION}"
        return "none"

    def compressor(self) -> Compressor:
        """A new one; the bytes it gives don't depend on the number of threads or processors.

        Feed it pieces of `tar.PIECE` bytes, for ISA-L's output depends on where they end.
        """
        if self.algorithm == "zstd":
            import zstandard

            # Any number of threads from 1 on gives the same bytes; 0, or a declared content size, gives others.
            level = self._level()
            jobs = {"job_size": _JOB, "overlap_log": _OVERLAP} if level <= _QUICK else {}
            threads = min(8, len(os.sched_getaffinity(0)))
            parameters = zstandard.ZstdCompressionParameters.from_level(level, threads=threads, **jobs)
            compressor = zstandard.ZstdCompressor(compression_params=parameters)
            return cast(Compressor, compressor.compressobj())
        if self.algorithm == "gzip":
            if self._level() in _ISAL_LEVELS:
                from isal import isal_zlib

                return cast(Compressor, isal_zlib.compressobj(self._level(), wbits=16 + 15))
            return cast(Compressor, zlib.compressobj(self._level(), wbits=16 + 15))
        return _Plain()

    def _level(self) -> int:
        return DEFAULT_LEVELS[self.algorithm] if self.level is None else self.level


class _Plain:
    """The Compressor that does nothing."""

    def compress(self, data: memoryview) -> memoryview:
        return data

    def flush(self) -> bytes:
        return b""


def parse_compression(text: str) -> Compression:
    """``zstd``, ``zstd:19``, ``gzip:2``, ``none``. Raises UsageError."""
    algorithm, colon, level = text.partition(":")
    if algorithm not in _LEVELS:
        raise UsageError(
            f"{text!r} is not a compression", hint="one of zstd, gzip, none; zstd:19 sets a level"
        )
    if not colon:
        return Compression(algorithm)
    levels = _LEVELS[algorithm]
    if not level.isdecimal() or int(level) not in levels:
        raise UsageError(f"{text!r}: the level of {algorithm} is from {levels[0]} to {levels[-1]}")
    return Compression(algorithm, int(level))


class Decompressed:
    """The plain bytes of ``source``; made by `decompress`.

    Raises TransportError, from `read` and `readinto`, for damaged or truncated data. Errors that are layersmith's own
    (a blob's digest) pass through.
    """

    def __init__(self, source: IO[bytes], algorithm: str) -> None:
        self._source = source
        self.algorithm = algorithm
        """``zstd``, ``gzip``, ``bzip2``, ``xz`` or ``none``."""

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes, or all of them; ``b""`` at the end."""
        try:
            return self._source.read(size)
        except Exception as error:
            raise self._explained(error) from error

    def fill(self, buffer: memoryview) -> int:
        """Put bytes into all of ``buffer``, or as many as there are left; their number."""
        done = 0
        source = cast(Any, self._source)
        try:
            while done < len(buffer) and (got := source.readinto(buffer[done:])):
                done += got
        except Exception as error:
            raise self._explained(error) from error
        return done

    def _explained(self, error: Exception) -> Exception:
        if isinstance(error, LayersmithError):
            return error
        if isinstance(error, (EOFError, OSError, ValueError, zlib.error, RuntimeError)) or type(
            error
        ).__name__ in ("ZstdError", "LZMAError", "IsalError", "error"):
            return TransportError(f"the {self.algorithm} data is damaged or cut short: {error}")
        return error


def decompress(source: IO[bytes] | Readable) -> Decompressed:
    """The plain bytes of a gzip, zstd, bzip2, xz or plain stream, told apart by its magic number.

    Several members or frames in a row are one stream. ``source`` need not seek; it stays the caller's to close.
    """
    head = b""
    while len(head) < _TAR_MAGIC_END and (more := source.read(_TAR_MAGIC_END - len(head))):
        head += more
    whole = _Prepended(head, source)
    algorithm = next((name for magic, name in _MAGICS if head.startswith(magic)), "none")
    if len(head) >= 4 and int.from_bytes(head[:4], "little") in SKIPPABLE:
        algorithm = "zstd"
    if head.endswith(_TAR_MAGIC):
        algorithm = "none"  # a tar whose first file has a name like a magic number
    return Decompressed(cast("IO[bytes]", _OPENERS[algorithm](whole)), algorithm)


def _open_zstd(source: _Prepended) -> Any:
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
    followed = _Followed(source)
    reader = decompressor.stream_reader(cast(Any, followed), read_size=1 << 20, read_across_frames=True)
    return _WholeFrames(reader, followed.frames)


class _Followed:
    """A source whose frames are followed while it is read."""

    def __init__(self, source: _Prepended) -> None:
        self._source = source
        self.frames = Frames()

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self.frames.feed(data)
        return data


class _WholeFrames:
    """A zstd reader that notices when the stream is cut short."""

    def __init__(self, reader: Any, frames: Frames) -> None:
        self._reader = reader
        self._frames = frames

    def readinto(self, buffer: memoryview) -> int:
        count = int(self._reader.readinto(buffer))
        if not count:
            self._check()
        return count

    def read(self, size: int = -1) -> bytes:
        data = cast(bytes, self._reader.read(size))
        if size < 0 or (size and not data):
            self._check()
        return data

    def _check(self) -> None:
        if not self._frames.complete:
            raise EOFError("the last frame has no end")


def _open_gzip(source: _Prepended) -> Any:
    from isal import igzip

    return cast(Any, igzip.IGzipFile)(fileobj=cast(Any, source), mode="rb")


def _open_bzip2(source: _Prepended) -> Any:
    import bz2

    return bz2.BZ2File(cast(Any, source))


def _open_xz(source: _Prepended) -> Any:
    import lzma

    return lzma.LZMAFile(cast(Any, source))


class _Prepended:
    """A stream with the bytes put back that were read to tell what it is."""

    def __init__(self, head: bytes, source: IO[bytes] | Readable) -> None:
        self._head = head
        self._source = source

    def read(self, size: int = -1) -> bytes:
        if self._head:
            if size < 0:
                head, self._head = self._head, b""
                return head + self.read()
            head, self._head = self._head[:size], self._head[size:]
            return head
        return self._source.read(size)

    def readinto(self, buffer: memoryview) -> int:
        if not self._head and hasattr(self._source, "readinto"):
            return int(self._source.readinto(buffer))
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    @property
    def closed(self) -> bool:
        return False


_OPENERS: dict[str, Callable[[_Prepended], Any]] = {
    "zstd": _open_zstd,
    "gzip": _open_gzip,
    "bzip2": _open_bzip2,
    "xz": _open_xz,
    "none": lambda source: source,
}
