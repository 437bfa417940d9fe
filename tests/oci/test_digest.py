"""Digests and ChainIDs."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layersmith.errors import TransportError
from layersmith.oci.digest import DiffID, chain_id, digest_of, parse_digest


@given(st.binary(max_size=200))
@settings(max_examples=30)
def test_a_digest_is_the_sha256_of_the_bytes_and_parses(data: bytes) -> None:
    """digest_of is sha256 in hex, and parse_digest gives it back."""
    digest = digest_of(data)
    assert digest == "sha256:" + hashlib.sha256(data).hexdigest()
    assert parse_digest(digest) == digest


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:",
        "sha256:" + "A" * 64,
        "sha256:" + "a" * 63,
        "sha256:" + "a" * 65,
        "a" * 64,
        "sha256:../../../../etc/passwd",
        "sha256:" + "a" * 63 + "/",
        "sha256:" + "a" * 64 + "\n",
        "sha512:" + "a" * 128,
        "md5:" + "a" * 32,
    ],
)
def test_anything_else_is_no_digest(text: str) -> None:
    """A digest becomes a file name, so nothing but 64 hexadecimal digits may pass."""
    with pytest.raises(TransportError):
        parse_digest(text)


def test_chain_id_is_that_of_the_specification() -> None:
    """ChainID(L0) = L0; ChainID(L0|…|Ln) = SHA256(ChainID(L0|…|Ln-1) + " " + Ln) (config.md)."""
    a, b, c = (DiffID(digest_of(letter)) for letter in (b"a", b"b", b"c"))
    assert chain_id([a]) == a
    two = "sha256:" + hashlib.sha256(f"{a} {b}".encode()).hexdigest()
    assert chain_id([a, b]) == two
    assert chain_id([a, b, c]) == "sha256:" + hashlib.sha256(f"{two} {c}".encode()).hexdigest()
    with pytest.raises(ValueError):
        chain_id([])
