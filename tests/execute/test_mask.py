"""Secrets in a step's output are never shown."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from layersmith.execute.mask import Mask

SECRET = b"hunter2-and-more"


def masked(secrets: list[bytes], pieces: list[bytes]) -> bytes:
    mask = Mask(secrets)
    return b"".join(mask.feed(1, piece) for piece in pieces) + mask.flush(1)


@settings(max_examples=100)
@given(st.binary(max_size=40), st.binary(max_size=40), st.lists(st.integers(0, 96), max_size=5))
def test_a_secret_cut_anywhere_is_masked(before: bytes, after: bytes, cuts: list[int]) -> None:
    """However the output is cut into pieces, the secret is not in it, and all else is."""
    text = before + SECRET + after
    edges = [0, *sorted(min(c, len(text)) for c in cuts), len(text)]
    shown = masked([SECRET], [text[a:b] for a, b in pairwise(edges)])
    assert SECRET not in shown
    assert shown == text.replace(SECRET, b"***")


def test_lines_of_a_secret_are_masked_by_themselves() -> None:
    """A key printed line by line stays hidden."""
    assert masked([b"first-line\nsecond-line\n"], [b"x second-line y\n"]) == b"x *** y\n"


def test_streams_do_not_mix() -> None:
    """What one stream holds back does not come out in the other."""
    mask = Mask([SECRET])
    assert mask.feed(1, b"hunter") == b""
    assert mask.feed(2, b"2-and-more") == b"2-and-more"
    assert mask.flush(1) == b"hunter"


def test_tiny_secrets_are_left() -> None:
    """A secret of one letter would make every line unreadable."""
    assert masked([b"a"], [b"banana"]) == b"banana"
