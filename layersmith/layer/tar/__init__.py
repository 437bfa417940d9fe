"""The tar format, as POSIX pax(1) and GNU tar define it. In: entries or a stream. Out: a stream or entries."""

from __future__ import annotations

from layersmith.layer.tar.reader import TarReader, read_tar
from layersmith.layer.tar.writer import PIECE, TarWriter

__all__ = ["PIECE", "TarReader", "TarWriter", "read_tar"]
