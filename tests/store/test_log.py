"""The log: every byte comes back, in order, with its stream; tail and follow."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layersmith.store.log import STDERR, STDOUT, LogWriter, read_log, timestamp

CHUNKS = st.lists(
    st.tuples(
        st.sampled_from([STDOUT, STDERR]), st.binary(max_size=30) | st.sampled_from([b"\n", b"a\n\nb"])
    ),
    max_size=12,
)


def write(path: Path, chunks: list[tuple[int, bytes]]) -> None:
    with LogWriter(path) as log:
        for stream, data in chunks:
            log.write(stream, data)


@settings(max_examples=100, deadline=None)
@given(CHUNKS)
def test_every_byte_comes_back(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[tuple[int, bytes]]
) -> None:
    """Whatever is written in whatever pieces, each stream reads back as the same bytes."""
    path = tmp_path_factory.mktemp("log") / "log"
    write(path, chunks)
    lines = list(read_log(path))
    for stream in (STDOUT, STDERR):
        written = b"".join(data for which, data in chunks if which == stream)
        assert b"".join(line.data for line in lines if line.stream == stream) == written


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text("ab \n", max_size=12).map(str.encode), max_size=8), st.integers(0, 6))
def test_tail_is_what_tail_gives(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], count: int
) -> None:
    """The last N lines are those of the whole output, a last line without an end counted as one."""
    path = tmp_path_factory.mktemp("log") / "log"
    write(path, [(STDOUT, piece) for piece in pieces])
    lines = b"".join(pieces).splitlines(keepends=True)
    expected = b"".join(lines[-count:] if count else [])
    assert b"".join(line.data for line in read_log(path, tail=count)) == expected


def test_tail_of_a_long_log(tmp_path: Path) -> None:
    """Tail finds its place in a log of many blocks, and lines longer than a block."""
    path = tmp_path / "log"
    write(
        path,
        [(STDOUT, b"%d\n" % n) for n in range(9000)] + [(STDOUT, b"x" * 200_000 + b"\n"), (STDERR, b"end\n")],
    )
    assert [line.data for line in read_log(path, tail=1)] == [b"end\n"]
    assert b"".join(line.data for line in read_log(path, tail=3)) == b"8999\n" + b"x" * 200_000 + b"\nend\n"
    assert len(list(read_log(path, tail=5000))) == 5000


def test_the_format_is_cri(tmp_path: Path) -> None:
    """Lines are TIME STREAM F|P TEXT, as the kubelet's log format has them."""
    write(tmp_path / "log", [(STDOUT, b"whole\npart"), (STDERR, b"e\n")])
    fields = [line.split(b" ", 3)[1:] for line in (tmp_path / "log").read_bytes().splitlines()]
    assert fields == [[b"stdout", b"F", b"whole"], [b"stdout", b"P", b"part"], [b"stderr", b"F", b"e"]]


def test_since_leaves_the_older_out(tmp_path: Path) -> None:
    """Lines before the given time are not given out."""
    path = tmp_path / "log"
    early, late = timestamp(1_000_000_000), timestamp(2_000_000_001)
    path.write_text(f"{early} stdout F old\n{late} stdout F new\n")
    assert [line.data for line in read_log(path, since=timestamp(2_000_000_000))] == [b"new\n"]
    assert early == "1970-01-01T00:00:01.000000000Z"


def test_follow_gives_out_what_comes_until_the_end(tmp_path: Path) -> None:
    """Following sees what is written later, all that was written before the end, and then ends."""
    path = tmp_path / "log"
    write(path, [(STDOUT, b"first\n")])
    running = True
    seen: list[bytes] = []
    following = threading.Thread(
        target=lambda: seen.extend(line.data for line in read_log(path, follow=lambda: running))
    )
    following.start()
    write(path, [(STDOUT, b"second\n"), (STDOUT, b"third")])
    running = False
    following.join(5)
    assert seen == [b"first\n", b"second\n", b"third"]


def test_garbage_and_no_log_are_no_lines(tmp_path: Path) -> None:
    """A torn line (power failure) is passed over; no log has no lines. No descriptor is left open."""
    before = len(os.listdir("/proc/self/fd"))
    (tmp_path / "log").write_bytes(b"torn\n\0\0\0\n2026 stdout F ok\n")
    assert [line.data for line in read_log(tmp_path / "log")] == [b"ok\n"]
    assert list(read_log(tmp_path / "none")) == []
    assert len(os.listdir("/proc/self/fd")) == before
