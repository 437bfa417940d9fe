"""Where a zstd stream's frames end, by RFC 8878, section 3. In: its compressed bytes. Out: whether it ended properly.

The zstandard module's readers take a stream that is cut short for a whole one.
"""

from __future__ import annotations

MAGIC = 0xFD2FB528
SKIPPABLE = range(0x184D2A50, 0x184D2A60)
"""Magic numbers of skippable frames."""

_DICTIONARY_ID = (0, 1, 2, 4)
_CONTENT_SIZE = (0, 2, 4, 8)


class Frames:
    """Follows the headers of frames and blocks, and passes over what is in them."""

    def __init__(self) -> None:
        self._wanted = 4
        self._header = b""
        self._skip = 0
        self._next = self._magic
        self._checksum = False

    @property
    def complete(self) -> bool:
        """Whether what was fed so far ends where a frame does."""
        return self._next == self._magic and not self._header and not self._skip

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next bytes of the stream."""
        at = 0
        while at < len(data):
            if self._skip:
                step = min(self._skip, len(data) - at)
                self._skip -= step
                at += step
                continue
            part = bytes(data[at : at + self._wanted - len(self._header)])
            self._header += part
            at += len(part)
            if len(self._header) < self._wanted:
                return
            header, self._header = self._header, b""
            self._next(header)

    def _magic(self, header: bytes) -> None:
        magic = int.from_bytes(header, "little")
        if magic in SKIPPABLE:
            self._wanted, self._next = 4, self._skippable
        elif magic == MAGIC:
            self._wanted, self._next = 1, self._descriptor
        else:
            raise ValueError("not a zstd frame")

    def _skippable(self, header: bytes) -> None:
        self._end_of_frame(int.from_bytes(header, "little"))

    def _descriptor(self, header: bytes) -> None:
        flags = header[0]
        single_segment = bool(flags & 0x20)
        self._checksum = bool(flags & 0x04)
        size = _CONTENT_SIZE[flags >> 6] or single_segment
        self._skip = (not single_segment) + _DICTIONARY_ID[flags & 3] + size
        self._wanted, self._next = 3, self._block

    def _block(self, header: bytes) -> None:
        value = int.from_bytes(header, "little")
        # A block of one repeated byte has that byte, however long it gets.
        self._skip = 1 if value >> 1 & 3 == 1 else value >> 3
        if value & 1:
            self._end_of_frame(self._skip + 4 * self._checksum)

    def _end_of_frame(self, skip: int) -> None:
        self._skip = skip
        self._wanted, self._next = 4, self._magic
