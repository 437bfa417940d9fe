from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layersmith.buildfile.suggest import is_slip, nearest, shown
from layersmith.buildfile.values import format_duration, parse_bool, parse_duration, parse_size

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("30s", 30 * SECOND),
        ("1h1m1s", 3661 * SECOND),
        ("1.5s", 3 * SECOND // 2),
        (".5s", SECOND // 2),
        ("1.s", SECOND),
        ("1ms2us3ns", 1_002_003),
        ("1µs", 1000),
        ("-2s", -2 * SECOND),
        ("+2s", 2 * SECOND),
        ("0.1234567891s", 123_456_789),
    ],
)
def test_durations(text: str, nanoseconds: int) -> None:
    """Go's form, to the nanosecond."""
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize(
    "text", ["", "5", "s", ".s", "5x", "5 s", "1s ", "-", "9999999999h", "1" * 50 + "s", "٣s"]
)
def test_what_is_no_duration(text: str) -> None:
    """A number needs its unit."""
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@settings(max_examples=100)
@given(st.integers(min_value=0, max_value=(1 << 63) - 1))
def test_durations_are_printed_to_be_read(nanoseconds: int) -> None:
    """What is printed has the same value."""
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("64", 64),
        ("64b", 64),
        ("1k", 1024),
        ("2KB", 2048),
        ("1.5m", 3 << 19),
        ("1 GiB", 1 << 30),
        ("1t", 1 << 40),
    ],
)
def test_sizes(text: str, size: int) -> None:
    """Powers of 1024."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "m", "-1", "1x", "1kk", "1ib", "1,5m", "1" * 60])
def test_what_is_no_size(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


def test_booleans() -> None:
    """Go's spellings, and no other."""
    assert all(parse_bool(text) for text in ("1", "t", "true", "TRUE"))
    assert not any(parse_bool(text) for text in ("0", "f", "False", "FALSE"))
    with pytest.raises(ValueError, match="neither true nor false"):
        parse_bool("yes")


def test_the_nearest_name() -> None:
    """In the known spelling, or nothing where none is near."""
    assert nearest("FORM", ["RUN", "FROM", "COPY"]) == "FROM"
    assert nearest("bulid", ["build", "test"]) == "build"
    assert nearest("xyz", ["build", "test"]) is None
    assert nearest("x", []) is None


@pytest.mark.parametrize("name", ["PAHT", "PATHS", "PAT", "PXTH", "XPATH"])
def test_a_slip_is_one_key_away(name: str) -> None:
    """One character more, less, other, or two the wrong way round."""
    assert is_slip(name, "PATH")


@pytest.mark.parametrize(
    ("name", "meant"), [("PXXH", "PATH"), ("PA", "PATH"), ("AB", "AC"), ("HTAP", "PATH")]
)
def test_what_is_no_slip(name: str, meant: str) -> None:
    """Two differences, or a name too short to tell."""
    assert not is_slip(name, meant)


def test_long_texts_are_cut_in_messages() -> None:
    """A message stays a line."""
    assert shown("short") == "'short'"
    assert len(shown("x" * 10_000)) < 70
