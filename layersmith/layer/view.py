"""The files of a stack of layers, as an overlay of them would show, read from their indexes: nothing is unpacked.

In: layers, lowest first. Out: answers about paths.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from layersmith.layer.entry import Entry

if TYPE_CHECKING:
    from layersmith.oci.descriptor import Layer
    from layersmith.store import Store

ROOT = Entry(b"", b"5", 0o755)
"""The root directory of a stack in which no layer has an entry for it."""


class View:
    """The merged files of ``layers`` (lowest first). Paths are as `Entry.path`; safe to use from several threads.

    Whiteouts, opaque directories and hard links are resolved: whatever is given out is a REG (a hard link's
    ``link`` is the path of its first name), SYM, DIR, CHR, BLK or FIFO that exists.
    """

    def __init__(self, store: Store, layers: Sequence[Layer]) -> None:
        raise NotImplementedError

    def lookup(self, path: bytes) -> Entry | None:
        """What is at ``path``, no symlink followed, neither in the parents nor at the end. The root always is."""
        raise NotImplementedError

    def resolve(self, path: bytes, *, follow_last: bool = True) -> bytes:
        """The real path of ``path`` (absolute or relative to the root; ``.`` and ``..`` allowed), inside the root.

        What does not exist is kept as written. Raises CopyError after 40 symlinks, as the kernel's ELOOP.
        """
        raise NotImplementedError

    def children(self, path: bytes) -> Iterator[Entry]:
        """What lies directly in the directory ``path``, sorted by name; nothing for what is not a directory."""
        raise NotImplementedError

    def walk(self, path: bytes = b"") -> Iterator[Entry]:
        """``path`` and everything below it, parents first, names in byte order."""
        raise NotImplementedError

    def read(self, path: bytes, *, limit: int = 1 << 20) -> bytes:
        """The content of the regular file that ``path`` resolves to, from a snapshot or else from the blob.

        Raises NotFoundError where there is none, and StoreError for more than ``limit`` bytes.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Unmap the indexes; also at the end of a ``with`` block."""
        raise NotImplementedError

    def __enter__(self) -> View:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
