"""EXECUTE: where a copy goes. In: the destination as written, the files below. Out: `Destination`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from layersmith.dataclass import dataclass
from layersmith.errors import CopyError
from layersmith.execute.tree import checked_name
from layersmith.layer.entry import DIR, Entry

if TYPE_CHECKING:
    from layersmith.execute.source import Looks


class Below(Protocol):
    """What is asked about the files below: `layer.view.View` says what each method means."""

    def lookup(self, path: bytes) -> Entry | None: ...
    def resolve(self, path: bytes, *, follow_last: bool = True) -> bytes: ...
    def children(self, path: bytes) -> Iterator[Entry]: ...
    def walk(self, path: bytes = b"") -> Iterator[Entry]: ...
    def read(self, path: bytes, *, limit: int = 1 << 20) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Destination:
    """A path with no symlink left in it, and what the layers below have there.

    ``lead`` holds (path, entry or None) for each directory that leads to it, outermost first, without the root.
    """

    view: Below
    path: bytes
    wants_directory: bool
    """It was written with a trailing slash, or is a directory already."""
    entry: Entry | None
    lead: tuple[tuple[bytes, Entry | None], ...]

    @property
    def name(self) -> str:
        return os.fsdecode(self.path.rpartition(b"/")[2])

    @property
    def exists(self) -> bool:
        return self.entry is not None

    @property
    def is_file(self) -> bool:
        """Whether something that is not a directory is there."""
        return self.entry is not None and self.entry.kind != DIR

    def parent(self) -> Destination:
        """The directory that the path is in."""
        path, entry = self.lead[-1] if self.lead else (b"", self.view.lookup(b""))
        return Destination(self.view, path, wants_directory=True, entry=entry, lead=self.lead[:-1])

    def leading(self, looks: Looks) -> tuple[list[Entry], bool]:
        """The entries of the directories that lead here, itself included, and whether one of them is new.

        A layer is unpacked alone, so what exists is repeated with the attributes it has.
        """
        steps = [*self.lead, (self.path, self.entry)] if self.path else []
        return [entry or looks.made_directory(path) for path, entry in steps], any(
            entry is None for _, entry in steps
        )

    def not_a_directory(self) -> CopyError:
        """The error for a directory that is to be copied onto something else."""
        return CopyError(
            f"can't copy a directory to /{os.fsdecode(self.path)}, which is not a directory there",
            hint="remove it in an earlier RUN, or copy to another place",
        )

    def facts(self) -> tuple[tuple[str, str], ...]:
        """What a copy to here takes from the layers below; times aside."""
        return tuple(
            ("/" + os.fsdecode(path), _describe(entry))
            for path, entry in (*self.lead, (self.path, self.entry))
        )

    def facts_below(self) -> tuple[tuple[str, str], ...]:
        """The same for every directory below."""
        if self.entry is None or self.is_file:
            return ()
        return tuple(
            ("/" + os.fsdecode(entry.path), _describe(entry))
            for entry in self.view.walk(self.path)
            if entry.kind == DIR
        )


def _describe(entry: Entry | None) -> str:
    if entry is None:
        return "missing"
    if entry.kind != DIR:
        return "no directory"
    return f"{entry.mode:o} {entry.uid}:{entry.gid} {entry.xattrs or ''}"


def locate(dest: str, view: Below) -> Destination:
    """Resolve ``dest`` (absolute; symlinks followed inside the root, the last one too).

    Raises:
        CopyError: it leads through, or with a trailing slash to, something that is not a directory.
    """
    path = view.resolve(os.fsencode(checked_name(dest)), follow_last=True)
    parts = path.split(b"/") if path else []
    lead: list[tuple[bytes, Entry | None]] = []
    for end in range(1, len(parts)):
        above = b"/".join(parts[:end])
        entry = view.lookup(above) if not lead or lead[-1][1] is not None else None
        if entry is not None and entry.kind != DIR:
            raise CopyError(
                f"the destination {dest} leads through /{os.fsdecode(above)}, which is not a directory",
                hint="remove it in an earlier RUN, or choose another destination",
            )
        lead.append((above, entry))
    entry = view.lookup(path) if not lead or lead[-1][1] is not None else None
    slash = dest.endswith(("/", "/."))
    if slash and entry is not None and entry.kind != DIR:
        raise CopyError(
            f"the destination {dest} ends with a slash, but /{os.fsdecode(path)} is not a directory",
            hint="leave out the slash to replace the file",
        )
    is_dir = entry is not None and entry.kind == DIR
    return Destination(view, path, slash or is_dir, entry, tuple(lead))
