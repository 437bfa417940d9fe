"""Content digests, as image-spec's descriptor.md and config.md define them. In: bytes or text. Out: `Digest`.

Only SHA-256 is spoken: it is what every registry and tool writes, and one algorithm keeps names on disk simple.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import NewType

from layersmith.errors import TransportError

Digest = NewType("Digest", str)
"""``sha256:<64 lower-case hex digits>`` of the bytes as they are stored or sent."""

DiffID = NewType("DiffID", str)
"""The digest of a layer's uncompressed tar."""

ChainID = NewType("ChainID", str)
"""The digest that names a stack of DiffIDs."""

_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")
_ANY = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+")


def parse_digest(text: str) -> Digest:
    """``text`` as a Digest.

    Raises:
        TransportError: it is malformed, or of an algorithm other than SHA-256.
    """
    if _SHA256.fullmatch(text):
        return Digest(text)
    shown = text if len(text) <= 150 else text[:150] + "..."
    if _ANY.fullmatch(text) and not text.startswith("sha256:"):
        raise TransportError(
            f"digest {shown!r} is of an algorithm that layersmith does not speak",
            hint="only sha256 digests are supported",
        )
    raise TransportError(f"{shown!r} is not a digest", hint="a digest is sha256: and 64 hexadecimal digits")


def digest_of(data: bytes) -> Digest:
    """The digest of ``data``."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def encoded(digest: str) -> str:
    """The hexadecimal part of a digest."""
    return digest.partition(":")[2]


def chain_id(diff_ids: Sequence[DiffID]) -> ChainID:
    """The ChainID of a stack, lowest layer first (image-spec config.md, "Layer ChainID").

    Raises:
        ValueError: the stack is empty; nothing has no ChainID.
    """
    if not diff_ids:
        raise ValueError("the ChainID of no layers")
    chain: str = diff_ids[0]
    for diff_id in diff_ids[1:]:
        chain = digest_of(f"{chain} {diff_id}".encode())
    return ChainID(chain)
