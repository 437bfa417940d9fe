"""LAYER: items to a blob in the store, in one pass. In: `Item`s. Out: a `Layer` and its file index."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from layersmith.layer.compress import Compression
from layersmith.layer.entry import Item

if TYPE_CHECKING:
    from layersmith.oci.descriptor import Layer
    from layersmith.store import Store


@dataclass(frozen=True, slots=True)
class Packed:
    """A layer now in the store; ``entries`` counts its tar's entries, ``size`` is the tar's length in bytes."""

    layer: Layer
    entries: int
    size: int


def pack(
    store: Store,
    items: Iterable[Item],
    *,
    compression: Compression = Compression(),  # noqa: B008  (frozen)
    epoch: int | None = None,
) -> Packed:
    """Write ``items`` as a layer: tar, SHA-256 (DiffID), compression, SHA-256 (digest), blob, and the file index.

    ``epoch`` (SOURCE_DATE_EPOCH, seconds) lowers newer mtimes to it. The same items give the same bytes on every
    machine with the same libzstd or ISA-L. Runs threads of its own and may be called from any thread. An error of
    the items' iterator is raised here, and then neither blob nor index exists.
    """
    raise NotImplementedError
