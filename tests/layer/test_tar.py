"""The tar writer and reader against each other, Python's tarfile and GNU tar."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import tarfile
import threading
import time
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layersmith.errors import HostileInputError, StepError, TransportError
from layersmith.layer.entry import BLK, CHR, DIR, FIFO, LNK, REG, SYM, Content, Entry
from layersmith.layer.tar import PIECE, TarReader, TarWriter, read_tar
from layersmith.layer.tar.header import number
from layersmith.layer.tar.reader import clean_path, pieces
from layersmith.layer.tar.writer import encode

Pairs = list[tuple[Entry, Content]]


def write(items: Pairs) -> bytes:
    out: list[bytes] = []

    def emit(buffer: memoryview, length: int) -> memoryview:
        out.append(bytes(buffer[:length]))
        buffer[:] = b"\xaa" * len(buffer)  # what a reused buffer held before must not show
        return buffer

    writer = TarWriter(emit, memoryview(bytearray(b"\xaa" * PIECE)))
    for entry, content in items:
        writer.add(entry, content)
    writer.close()
    assert all(len(piece) == PIECE for piece in out[:-1])
    return b"".join(out)


def read(data: bytes) -> list[tuple[Entry, bytes | None]]:
    return [
        (entry, None if body is None else b"".join(iter(partial(body.read, 5000), b"")))
        for entry, body in read_tar(io.BytesIO(data))
    ]


names = st.binary(min_size=1, max_size=255).filter(
    lambda n: not set(n) & {0, 0x2F} and n not in (b".", b"..")
)
paths = st.lists(names, min_size=1, max_size=4).map(b"/".join)
ids = st.integers(0, 0xFFFFFFFE)
times = st.integers(-(1 << 40), 1 << 40)
xattrs = st.dictionaries(
    st.sampled_from([b"user.a", b"user.\xff \n", b"security.capability"]),
    st.binary(min_size=1, max_size=300),
).map(lambda d: tuple(sorted(d.items())))


@st.composite
def items(draw: st.DrawFn) -> tuple[Entry, Content]:
    kind = draw(st.sampled_from([REG, LNK, SYM, CHR, BLK, DIR, FIFO]))
    content = draw(st.binary(max_size=1500)) if kind == REG else None
    entry = Entry(
        draw(paths),
        kind,
        draw(st.integers(0, 0o7777)),
        draw(ids),
        draw(ids),
        draw(times),
        len(content or b""),
        draw(paths) if kind in (LNK, SYM) else b"",
        draw(st.integers(0, 4095)) if kind in (CHR, BLK) else 0,
        draw(st.integers(0, 0xFFFFF)) if kind in (CHR, BLK) else 0,
        draw(xattrs),
    )
    return entry, content


@settings(max_examples=100, deadline=None)
@given(st.lists(items(), max_size=5))
def test_what_is_written_is_read_back(given_items: Pairs) -> None:
    """Any entry survives writing and reading, field by field and byte by byte."""
    assert read(write(given_items)) == given_items


@settings(max_examples=60, deadline=None)
@given(items())
def test_tarfile_reads_ours(item: tuple[Entry, Content]) -> None:
    """Python's tarfile finds the same name, type, owner, mode, time, size, link, device and xattrs."""
    entry, content = item
    with tarfile.open(
        fileobj=io.BytesIO(write([item])), encoding="utf-8", errors="surrogateescape"
    ) as archive:
        (info,) = archive.getmembers()
        assert os.fsencode(info.name) == entry.path.rstrip(b"/")
        assert (info.type, info.mode, info.uid, info.gid) == (entry.kind, entry.mode, entry.uid, entry.gid)
        assert (info.mtime, info.size) == (entry.mtime, entry.size)
        assert os.fsencode(info.linkname) == entry.link
        if entry.kind in (CHR, BLK):
            assert (info.devmajor, info.devminor) == (entry.major, entry.minor)
        if isinstance(content, bytes):
            file = archive.extractfile(info)
            assert file is not None and file.read() == content
        for key, value in entry.xattrs:
            if value.isascii() and key.isascii():
                assert info.pax_headers["SCHILY.xattr." + key.decode()] == value.decode()


@settings(max_examples=60, deadline=None)
@given(items(), st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
def test_we_read_tarfiles(item: tuple[Entry, Content], format: int) -> None:
    """A tar by tarfile, in GNU's and in PAX format, gives the entry that it was made of."""
    entry, content = item
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format, errors="surrogateescape") as archive:
        info = tarfile.TarInfo(os.fsdecode(entry.path))
        info.type, info.mode, info.uid, info.gid = entry.kind, entry.mode, entry.uid, entry.gid
        info.mtime, info.size, info.linkname = entry.mtime, entry.size, os.fsdecode(entry.link)
        info.devmajor, info.devminor = entry.major, entry.minor
        archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    assert read(out.getvalue()) == [(entry._replace(xattrs=()), content)]


@given(st.binary(min_size=1, max_size=100).filter(lambda n: 0 not in n))
def test_checksum_is_the_sum_of_the_header(name: bytes) -> None:
    """The checksum by adler32 equals the plain sum, for names of the highest bytes as well."""
    for entry in (Entry(name, SYM, link=b"\xff" * 100), Entry(b"\xfe" * 100, SYM, 0o7777, link=name)):
        block = encode(entry)[-512:]
        assert number(block[148:156]) == sum(block[:148]) + sum(block[156:]) + 8 * 32


def test_a_large_file_takes_constant_memory(tmp_path: Path) -> None:
    """A file of 300 MiB goes through one buffer of a MiB."""
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(300 << 20)
    seen = 0

    def emit(buffer: memoryview, length: int) -> memoryview:
        nonlocal seen
        seen += length
        return buffer

    writer = TarWriter(emit, memoryview(bytearray(PIECE)))
    with path.open("rb") as file:
        writer.add(Entry(b"large", REG, size=300 << 20), file.fileno())
    writer.close()
    assert seen == writer.size
    assert seen >= 300 << 20


@pytest.mark.parametrize(
    "size", [0, 1, 511, 512, 513, PIECE - 1024, PIECE - 512, PIECE - 511, PIECE, 3 * PIECE + 7]
)
def test_sizes_around_the_buffer(size: int, tmp_path: Path) -> None:
    """Contents that end just before, at and after a piece's end are whole, from bytes, a file and a stream alike."""
    body = os.urandom(size)
    (tmp_path / "f").write_bytes(body)
    entry = Entry(b"f", REG, 0o644, size=size)
    with (tmp_path / "f").open("rb") as file:
        fromfile = write([(entry, file.fileno()), (entry, body)])
    assert fromfile == write([(entry, io.BytesIO(body)), (entry, body)])
    assert read(fromfile) == [(entry, body), (entry, body)]


@pytest.mark.parametrize("actual", [9, 11, 2 * PIECE + 1, 0])
@pytest.mark.parametrize("said", [10, 2 * PIECE])
def test_a_file_of_another_size_is_an_error(actual: int, said: int, tmp_path: Path) -> None:
    """A content shorter than its entry says is never padded; a longer stream never cut."""
    (tmp_path / "f").write_bytes(bytes(actual))
    entry = Entry(b"f", REG, size=said)
    if actual < said:
        with (tmp_path / "f").open("rb") as file, pytest.raises(StepError, match="changed"):
            write([(entry, file.fileno())])
    with pytest.raises(StepError, match="changed"):
        write([(entry, io.BytesIO(bytes(actual)))])
    with pytest.raises(StepError, match="changed"):
        write([(entry, bytes(actual))])


def test_an_xattr_that_pax_has_no_way_for_is_an_error() -> None:
    """A name with an equals sign would be read back as another."""
    with pytest.raises(StepError, match="extended attribute"):
        encode(Entry(b"f", REG, xattrs=((b"user.a=b", b"1"),)))


def test_pax_only_where_needed() -> None:
    """Entries that ustar holds are one block, long paths with a slash at the right place included."""
    assert len(encode(Entry(b"a" * 100, REG))) == 512
    assert len(encode(Entry(b"a" * 150 + b"/" + b"b" * 100, REG))) == 512
    assert len(encode(Entry(b"a" * 150 + b"/" + b"b" * 101, REG))) == 1536
    assert len(encode(Entry(b"a" * 99, DIR))) == 512
    assert len(encode(Entry(b"a" * 100, DIR))) == 1536  # with the slash it is 101 long
    assert len(encode(Entry(b"a", REG, mtime=-1))) == 1536


@pytest.mark.skipif(not shutil.which("tar"), reason="needs GNU tar")
def test_gnu_tar_lists_ours(tmp_path: Path) -> None:
    """GNU tar reads long names, negative times, large ids and sizes without a complaint."""
    body = b"x" * 3000
    data = write(
        [
            (Entry(b"", DIR, 0o755), None),
            (Entry(b"d" * 90 + b"/" + b"f" * 200, REG, 0o4755, 3_000_000, 5, -7, len(body)), body),
            (Entry("ü".encode() * 60, SYM, 0o777, link=b"t" * 300), None),
            (Entry(b"hard", LNK, 0o644, link=b"d" * 90 + b"/" + b"f" * 200), None),
            (Entry(b"\xff\xfe" * 90, FIFO, 0o600), None),
        ]
    )
    path = tmp_path / "t.tar"
    path.write_bytes(data)
    done = subprocess.run(
        ["tar", "-tvf", path, "--numeric-owner", "--utc", "--quoting-style=escape"],
        capture_output=True,
        check=True,
        text=True,
        env={"LC_ALL": "C", "PATH": os.environ["PATH"]},
    )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert len(lines) == 5
    assert lines[1].startswith("-rwsr-xr-x 3000000/5") and "1969-12-31 23:59" in lines[1]
    assert lines[2].endswith("-> " + "t" * 300)
    assert lines[4].endswith("\\377\\376" * 90)


@pytest.mark.skipif(not shutil.which("tar"), reason="needs GNU tar")
@pytest.mark.parametrize(
    "options",
    [
        ["--format=v7"],
        ["--format=oldgnu"],
        ["--format=gnu"],
        ["--format=ustar"],
        ["--format=posix"],
        ["--format=gnu", "--sparse"],
        *(["--format=posix", "--sparse", f"--sparse-version={v}"] for v in ("0.0", "0.1", "1.0")),
    ],
    ids=" ".join,
)
def test_we_read_gnu_tars_formats(options: list[str], tmp_path: Path) -> None:
    """Every format that GNU tar writes gives the same files, sparse ones with their holes as zeros."""
    source = tmp_path / "source"
    (source / "d").mkdir(parents=True)
    (source / "d" / "plain").write_bytes(b"text")
    os.link(source / "d" / "plain", source / "hard")
    (source / "link").symlink_to("d/plain")
    with (source / "sparse").open("wb") as file:
        for block in range(60):
            file.seek(block * 200_000)
            file.write(b"data %d" % block)
        file.truncate(13_000_000)
    archive = tmp_path / "t.tar"
    subprocess.run(["tar", "-C", source, "-cf", archive, *options, "--sort=name", "."], check=True)
    found = {entry.path: (entry, body) for entry, body in read(archive.read_bytes())}
    assert sorted(found) == [b"", b"d", b"d/plain", b"hard", b"link", b"sparse"]
    assert found[b"d/plain"][1] == b"text"
    assert (found[b"hard"][0].kind, found[b"hard"][0].link) == (LNK, b"d/plain")
    assert found[b"link"][0].link == b"d/plain"
    assert found[b"sparse"][0].size == 13_000_000
    assert found[b"sparse"][1] == (source / "sparse").read_bytes()
    assert {entry.kind for entry, _ in found.values()} == {DIR, REG, LNK, SYM}


def test_base_256_numbers() -> None:
    """GNU's binary numbers: positive, negative, and refused beyond 63 bits."""
    assert number(b"\x80\0\0\0\0\0\0\0\0\0\1\0") == 256
    assert number(b"\xff" * 12) == -1
    assert number(b"\x80\0\0\0\xff\xff\xff\xff") == 0xFFFFFFFF
    with pytest.raises(TransportError):
        number(b"\x80\1" + bytes(10))
    for junk in (b"0000009\0", b"abc    \0", b"-000001\0"):
        with pytest.raises(TransportError):
            number(junk)


def test_global_pax_headers_are_defaults() -> None:
    """A global record holds for what follows, a local one wins, and a global path or size is ignored."""
    out = io.BytesIO()
    with tarfile.open(
        fileobj=out,
        mode="w",
        format=tarfile.PAX_FORMAT,
        pax_headers={"uid": "77", "path": "evil", "size": "9"},
    ) as archive:
        archive.addfile(tarfile.TarInfo("a"))
        info = tarfile.TarInfo("b")
        info.pax_headers = {"uid": "78"}
        archive.addfile(info)
    assert [(e.path, e.uid, e.size) for e, _ in read(out.getvalue())] == [(b"a", 77, 0), (b"b", 78, 0)]


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        (b"a", b"a"),
        (b"./a", b"a"),
        (b"/a/b/", b"a/b"),
        (b"a//b", b"a/b"),
        (b"a/./b", b"a/b"),
        (b"../../etc", b"etc"),
        (b"a/../../b", b"b"),
        (b"..", b""),
        (b".", b""),
        (b"/", b""),
        (b"a/b/..", b"a"),
        (b"...", b"..."),
        (b"a/..b", b"a/..b"),
        (b"x./y", b"x./y"),
    ],
)
def test_clean_path(name: bytes, clean: bytes) -> None:
    """Whatever a name says, the path is relative to the root and stays in it."""
    assert clean_path(name) == clean


def test_every_truncation_is_noticed() -> None:
    """A tar that ends anywhere but between entries is an error, never a shorter file."""
    data = write(
        [(Entry(b"a", REG, size=700, xattrs=((b"user.a", b"1"),)), b"x" * 700), (Entry(b"b", DIR), None)]
    )
    whole = read(data)
    for end in range(1, 512 * 6):
        try:
            found = read(data[:end])
        except TransportError:
            continue
        assert end % 512 == 0 and found == whole[: len(found)], end


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=3000), st.integers(0, 2500), st.binary(min_size=1, max_size=40))
def test_garbage_never_gives_anything_but_our_errors(junk: bytes, at: int, patch: bytes) -> None:
    """Random bytes and damaged tars end in entries or a TransportError."""
    good = bytearray(
        write([(Entry(b"p" * 200, REG, size=600), b"y" * 600), (Entry(b"q", SYM, link=b"r"), None)])
    )
    good[at : at + len(patch)] = patch
    for data in (junk, bytes(good)):
        with contextlib.suppress(TransportError):
            read(data)


def test_limits() -> None:
    """More entries or bytes than allowed are refused, a sparse file's holes counted."""
    data = write([(Entry(b"f%d" % i, REG, size=5000), bytes(5000)) for i in range(10)])
    assert len(list(TarReader(pieces(io.BytesIO(data)), max_entries=10, max_size=len(data)))) == 10
    with pytest.raises(HostileInputError, match="entries"):
        list(TarReader(pieces(io.BytesIO(data)), max_entries=9))
    with pytest.raises(HostileInputError, match="larger"):
        list(TarReader(pieces(io.BytesIO(data)), max_size=len(data) - 1))


def test_a_tebibyte_of_holes_is_refused(tmp_path: Path) -> None:
    """A sparse header that claims 1 TiB is caught by its header."""
    pax = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 40)}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("bomb")
        info.pax_headers = pax
        info.size = 512
        archive.addfile(info, io.BytesIO(b"1\n0\n0\n".ljust(512, b"\0")))
    data = out.getvalue()
    (entry,) = TarReader(pieces(io.BytesIO(data)))
    assert entry.size == 1 << 40
    with pytest.raises(HostileInputError, match="larger"):
        list(TarReader(pieces(io.BytesIO(data)), max_size=1 << 30))


@pytest.mark.parametrize("flat", ["2\n0\n300\n100\n300\n", "1\n600\n600\n", "1\n-1\n5\n", "1\n0\n"])
def test_senseless_sparse_maps_are_refused(flat: str) -> None:
    """Overlapping, negative, too long or cut short: an error."""
    pax = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "1000"}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("f")
        info.pax_headers = pax
        info.size = 1112
        archive.addfile(info, io.BytesIO(flat.encode().ljust(1112, b"\0")))
    with pytest.raises(TransportError):
        read(out.getvalue())


def test_negative_sizes_and_huge_headers_are_refused() -> None:
    """A size below zero or a PAX header of gigabytes never gets as far as being read."""
    base = bytearray(encode(Entry(b"f", REG)))
    for kind, size in ((b"0", b"\xff" * 12), (b"x", b"77777777777\0"), (b"L", b"77777777777\0")):
        block = bytearray(base)
        block[124:136] = size
        block[156:157] = kind
        total = sum(block[:148]) + sum(block[156:]) + 256
        block[148:156] = b"%06o\0 " % total
        with pytest.raises(HostileInputError):
            read(bytes(block) + bytes(1024))


def test_short_reads_are_not_an_end() -> None:
    """A descriptor that gives its bytes in small parts, as a pipe does, is read to its end."""
    reader, writer = os.pipe()
    try:
        parts = [b"one ", b"two ", b"three"]
        body = b"".join(parts)
        thread = threading.Thread(
            target=lambda: [(os.write(writer, part), time.sleep(0.02)) for part in parts]
        )
        thread.start()
        data = write([(Entry(b"f", REG, size=len(body)), reader)])
        thread.join()
        assert read(data) == [(Entry(b"f", REG, size=len(body)), body)]
    finally:
        os.close(reader)
        os.close(writer)
