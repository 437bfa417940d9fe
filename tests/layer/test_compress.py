"""Compressions: names, every format read, damage noticed."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile

import pytest
import zstandard

from layersmith.errors import TransportError, UsageError
from layersmith.layer.compress import Compression, decompress, parse_compression

TEXT = b"some text, " * 100_000 + os.urandom(200_000)


def packed() -> dict[str, bytes]:
    zstd = zstandard.ZstdCompressor(write_checksum=True)
    return {
        "gzip": gzip.compress(TEXT),
        "bzip2": bz2.compress(TEXT),
        "xz": lzma.compress(TEXT, preset=0),
        "zstd": zstd.compress(TEXT),
        "none": TEXT,
    }


def test_parse() -> None:
    """Names with an optional level; anything else is a usage error."""
    assert parse_compression("zstd") == Compression("zstd")
    assert parse_compression("zstd:19") == Compression("zstd", 19)
    assert parse_compression("gzip:0") == Compression("gzip", 0)
    for bad in ("lz4", "zstd:", "zstd:0", "zstd:23", "gzip:10", "zstd:-1", "none:1", "gzip:x", ""):
        with pytest.raises(UsageError):
            parse_compression(bad)


def test_describe_names_the_library() -> None:
    """Bytes depend on the version of libzstd or ISA-L, so a record of them has it."""
    version = ".".join(map(str, zstandard.ZSTD_VERSION))
    assert Compression("zstd").describe() == f"zstd -3 libzstd {version}"
    assert Compression("gzip").describe().startswith("gzip -1 isa-l 2.")
    assert Compression("gzip", 9).describe().startswith("gzip -9 zlib ")
    assert Compression("none").describe() == "none"


@pytest.mark.parametrize("name", packed())
def test_every_format_is_told_by_its_magic(name: str) -> None:
    """Plain, gzip, bzip2, xz and zstd are read alike, in one go, by small reads and into a buffer."""
    data = packed()[name]
    assert decompress(io.BytesIO(data)).algorithm == name
    assert decompress(io.BytesIO(data)).read() == TEXT
    stream = decompress(io.BytesIO(data))
    assert b"".join(iter(lambda: stream.read(70_001), b"")) == TEXT
    buffer = memoryview(bytearray(len(TEXT) + 100))
    assert decompress(io.BytesIO(data)).fill(buffer) == len(TEXT)
    assert buffer[: len(TEXT)] == TEXT


@pytest.mark.parametrize("name", ["gzip", "bzip2", "xz", "zstd"])
def test_members_in_a_row_are_one_stream(name: str) -> None:
    """As gzip's and zstd's own tools read them; zstd's skippable frames are skipped."""
    data = packed()[name]
    assert decompress(io.BytesIO(data + data)).read() == TEXT + TEXT
    if name == "zstd":
        skippable = b"\x50\x2a\x4d\x18\x03\0\0\0abc"
        assert decompress(io.BytesIO(skippable + data + skippable + data)).read() == TEXT + TEXT


@pytest.mark.parametrize("name", ["gzip", "bzip2", "xz", "zstd"])
def test_damage_and_truncation_are_errors(name: str) -> None:
    """Half a stream is never taken for a whole one."""
    data = packed()[name]
    for end in (len(data) // 2, len(data) - 1, len(data) - 5, 20):
        with pytest.raises(TransportError, match=name):
            decompress(io.BytesIO(data[:end])).read()
    broken = bytearray(data)
    broken[len(data) // 2] ^= 0x55
    broken[len(data) // 2 + 1] ^= 0x55
    with pytest.raises(TransportError, match=name):
        decompress(io.BytesIO(bytes(broken))).read()


def test_short_streams_are_plain() -> None:
    """Fewer bytes than any magic number has."""
    for data in (b"", b"x", b"\x1f\x8b", b"BZ"):
        assert decompress(io.BytesIO(data)).read() == data


def test_a_tar_is_plain_whatever_its_first_file_is_called() -> None:
    """A file name that looks like a magic number does not make a tar bzip2 or zstd."""
    for name in ("BZh91AY", "BZh"):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            archive.addfile(tarfile.TarInfo(name))
        assert decompress(io.BytesIO(out.getvalue())).read() == out.getvalue()
