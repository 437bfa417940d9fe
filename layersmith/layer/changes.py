"""DIFF: an overlay's upper directory to the items of a layer. In: upper (and what lies below). Out: `Item`s."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from layersmith.layer.entry import Item
from layersmith.layer.view import View


def changes(upper: Path, *, lower: View | None, xattr_namespace: str = "trusted") -> Iterator[Item]:
    """The entries that make ``lower`` into what the overlay of ``upper`` on it shows.

    ``lower`` is the files of the layers below; with it an opaque directory becomes explicit whiteouts (image-spec:
    writers SHOULD), and a whiteout of nothing is left out; without it ``.wh..wh..opq`` is written. Directories
    come before their content, names in byte order, whiteouts first. A hard link's first name carries the content.
    Sockets are left out. The root directory is an entry only where its mode, owner or xattrs are not lower's.
    ``xattr_namespace`` is ``trusted``, or ``user`` for an overlay mounted with ``userxattr``.

    Raises StepError where the upper directory can't be a layer (a real name that starts with ``.wh.``, a redirect
    or a metacopy), or a file changes while it is read.
    """
    raise NotImplementedError
