"""Layers to directories that overlayfs takes as lowerdirs. In: a `Layer`, its blob. Out: a snapshot's path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layersmith.oci.descriptor import Layer
    from layersmith.store import Store


@dataclass(frozen=True, slots=True)
class Limits:
    """What a layer may hold at most: bytes of its uncompressed tar (sparse files count in full), and entries."""

    max_size: int = 64 << 30
    max_entries: int = 10_000_000


def lowerdirs(
    store: Store,
    layers: Sequence[Layer],
    *,
    limits: Limits = Limits(),
    xattr_namespace: str = "trusted",
    ignore_chown_errors: bool = False,
) -> tuple[Path, ...]:
    """The snapshots of an image's ``layers`` (lowest first), as overlay wants them: topmost first.

    Unpacks what the store has not unpacked yet. Raises HostileInputError for a layer that leaves its root or its
    limits, DigestMismatchError for a damaged blob, NotFoundError for a missing one, StoreError where a file can't
    be written (rootless with a single id: where an owner can't be set, unless ``ignore_chown_errors``).
    """
    raise NotImplementedError


def unpack(
    store: Store,
    layer: Layer,
    below: Sequence[Layer] = (),
    *,
    limits: Limits = Limits(),
    xattr_namespace: str = "trusted",
    ignore_chown_errors: bool = False,
) -> Path:
    """The snapshot of one ``layer`` that lies on ``below`` (lowest first); see `lowerdirs`."""
    raise NotImplementedError
