"""Tables, sizes and times on a terminal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layersmith.cli.table import ago, cut, parse_time, printable, short, size, table, terminal_safe, width

NOW = datetime(2024, 5, 17, 12, tzinfo=UTC)


def test_columns_are_aligned() -> None:
    """To the left, and to the right where asked; no line ends in blanks."""
    assert table(["A", "SIZE"], [["x", "1"], ["long", "1234567"]], right=["SIZE"]).splitlines() == [
        "A         SIZE",
        "x            1",
        "long   1234567",
    ]
    assert table(["A", "B"], [["x", ""]]) == "A   B\nx"


def test_wide_characters_take_two_columns() -> None:
    """As a terminal draws them; a combining mark takes none."""
    assert width("日本") == 4
    assert width("e\u0301") == 1
    assert table(["A", "B"], [["日本", "x"], ["abcd", "x"]]).splitlines()[1:] == ["日本   x", "abcd   x"]


@settings(max_examples=100)
@given(st.text())
def test_printable_text_is_one_line_without_commands(text: str) -> None:
    """Nothing that a terminal acts upon survives, and what is harmless stays as it is."""
    shown = printable(text)
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 or 0x202A <= ord(c) <= 0x202E for c in shown)
    shown.encode()
    assert printable(shown) == shown
    assert terminal_safe(text).count("\n") == text.count("\n")


def test_printable_shows_what_it_was() -> None:
    """Escapes as Python writes them; bytes that are not UTF-8 as bytes."""
    assert printable("a\x1b[31m\n\u202eb") == "a\\x1b[31m\\n\\u202eb"
    assert printable(b"caf\xc3\xa9 \xff") == "caf\u00e9 \\xff"


@pytest.mark.parametrize(
    ("age", "said"),
    [
        (timedelta(), "just now"),
        (timedelta(seconds=1), "1 second ago"),
        (timedelta(seconds=59), "59 seconds ago"),
        (timedelta(minutes=1), "1 minute ago"),
        (timedelta(minutes=59), "59 minutes ago"),
        (timedelta(hours=1), "1 hour ago"),
        (timedelta(hours=47), "47 hours ago"),
        (timedelta(days=2), "2 days ago"),
        (timedelta(days=13), "13 days ago"),
        (timedelta(days=14), "2 weeks ago"),
        (timedelta(days=59), "8 weeks ago"),
        (timedelta(days=60), "2 months ago"),
        (timedelta(days=729), "24 months ago"),
        (timedelta(days=730), "2 years ago"),
        (-timedelta(hours=1), "in the future"),
    ],
)
def test_ago(age: timedelta, said: str) -> None:
    """One unit, the largest that still says something."""
    assert ago((NOW - age).isoformat(), NOW) == said


def test_times_as_images_have_them() -> None:
    """Go's nanoseconds, another zone, none at all, nonsense, and Go's year 1."""
    assert parse_time("2024-05-17T12:00:00.123456789Z") == NOW.replace(microsecond=123456)
    assert parse_time("2024-05-17T14:00:00+02:00") == NOW
    assert ago("0001-01-01T00:00:00Z", NOW) == ago(None, NOW) == ago("yesterday", NOW) == "-"


def test_sizes_and_digests() -> None:
    """As docker prints them."""
    assert [size(n) for n in (None, 0, 999, 1000, 1234567, 60209599)] == [
        "-",
        "0B",
        "999B",
        "1.0kB",
        "1.2MB",
        "60.2MB",
    ]
    assert short("sha256:" + "0123456789abcdef" * 4) == "0123456789ab"
    assert cut("x" * 50) == "x" * 44 + "…"
    assert cut("x" * 45) == "x" * 45
