"""`Refs`: names of images: index.json of the layout. In: a name and a descriptor. Out: the descriptor of a name.

An image is listed under its familiar name with the tag (``demo:latest``), and ``…:latest`` also without the tag,
so that both ``skopeo inspect oci:ROOT:demo`` and ``oci:ROOT:demo:latest`` find it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from layersmith.errors import NotFoundError, StoreError, TransportError, UsageError
from layersmith.oci.descriptor import REF_NAME, Descriptor
from layersmith.oci.manifest import Index
from layersmith.oci.reference import DEFAULT_TAG, parse_reference
from layersmith.store.files import replace_file, storing
from layersmith.store.locks import locked
from layersmith.store.session import Session

_SHORTEST_ID = 4

MOST_NAMES = 1_000_000
"""Entries of the store's own index that are read: more than of an index from elsewhere."""


class Refs:
    """The names of a store's images."""

    def __init__(self, index: Path, lock: Path, session: Session) -> None:
        self._index = index
        self._lock = lock
        self._session = session

    def get(self, name: str) -> Descriptor | None:
        """The image called ``name`` (``demo`` is ``demo:latest``), without annotations; None if there is none.

        A name with a digest finds that digest only; one that also has a tag, only if the tag has it.

        Raises:
            UsageError: ``name`` is not an image name.
        """
        reference = parse_reference(name)
        entries = self._read()
        if reference.tag is None:
            found = next((entry for entry in entries if entry.digest == reference.digest), None)
        else:
            wanted = reference.with_tag(reference.tag).familiar()
            found = next((entry for entry in entries if entry.annotation(REF_NAME) == wanted), None)
            if found is not None and reference.digest not in (None, found.digest):
                return None
        if found is None:
            return None
        self._session.pin(found.digest)
        return found.bare()

    def resolve(self, text: str) -> Descriptor:
        """The image that a person means: a name, a digest, or the unambiguous beginning of a digest.

        Raises:
            NotFoundError: there is none, or more than one.
        """
        try:
            found = self.get(text)
        except UsageError:
            found = None
        if found is None:
            found = self._by_id(text)
        if found is None:
            raise NotFoundError(
                f"no image {text!r} in the store", hint="`layersmith images` lists those there are"
            )
        return found

    def _by_id(self, text: str) -> Descriptor | None:
        prefix = text.removeprefix("sha256:").lower()
        if len(prefix) < _SHORTEST_ID or set(prefix) - set("0123456789abcdef"):
            return None
        found = {
            entry.digest: entry
            for entry in self._read()
            if entry.digest.removeprefix("sha256:").startswith(prefix)
        }
        if len(found) > 1:
            raise NotFoundError(
                f"{text!r} begins the digests of {len(found)} images", hint="write more of it"
            )
        for entry in found.values():
            self._session.pin(entry.digest)
            return entry.bare()
        return None

    def set(self, name: str, descriptor: Descriptor) -> None:
        """Call an image ``name``; an image that had the name loses it.

        Raises:
            UsageError: ``name`` is no image name, or has a digest.
        """
        names = _names(name)
        entry = descriptor.bare()
        if descriptor.platform is not None:
            entry = Descriptor(entry.media_type, entry.digest, entry.size, platform=descriptor.platform)
        self._update(names, [entry.annotated(**{REF_NAME: each}) for each in names])

    def keep(self, descriptor: Descriptor) -> None:
        """List an image that has no name, so that it can be found by its digest and is not pruned as an orphan."""
        entries = self._read()
        if all(entry.digest != descriptor.digest for entry in entries):
            self._update((), [descriptor.bare()])

    def delete(self, name: str) -> None:
        """Take a name away.

        Raises:
            NotFoundError: no image has it.
        """
        names = _names(name)
        if all(entry.annotation(REF_NAME) not in names for entry in self._read()):
            raise NotFoundError(f"no image {name!r} in the store")
        self._update(names, [])

    def forget(self, digests: Iterable[str]) -> None:
        """Take all names of these images away, and those that have none off the list."""
        gone = frozenset(digests)
        with locked(self._lock):
            entries = self._read()
            self._write(entries, [entry for entry in entries if entry.digest not in gone])

    def list(self) -> tuple[tuple[str, Descriptor], ...]:
        """All (name with tag, descriptor), sorted; the name of an image without one is ``""``."""
        found = []
        for entry in self._read():
            name = entry.annotation(REF_NAME) or ""
            if not name or ":" in name.rpartition("/")[2]:
                found.append(
                    (name, Descriptor(entry.media_type, entry.digest, entry.size, platform=entry.platform))
                )
        return tuple(sorted(found, key=lambda pair: (pair[0], pair[1].digest)))

    def _read(self) -> tuple[Descriptor, ...]:
        try:
            data = self._index.read_bytes()
        except FileNotFoundError:
            return ()
        try:
            return Index.from_json(data, most=MOST_NAMES).manifests
        except TransportError as error:
            raise StoreError(
                f"the store's {self._index} is damaged: {error.message}",
                hint="`layersmith fsck --repair` starts a new one; blobs stay, names of images are lost",
            ) from None

    def _update(self, names: tuple[str, ...], add: Sequence[Descriptor]) -> None:
        """Replace the entries called ``names``, in one write."""
        with locked(self._lock):
            entries = self._read()
            named = {entry.digest for entry in add}
            kept = [
                entry
                for entry in entries
                if entry.annotation(REF_NAME) not in names
                and not (entry.annotation(REF_NAME) is None and entry.digest in named)
            ]
            self._write(entries, (*kept, *add))

    def _write(self, before: tuple[Descriptor, ...], entries: Iterable[Descriptor]) -> None:
        ordered = tuple(sorted(entries, key=lambda entry: (entry.annotation(REF_NAME) or "", entry.digest)))
        if ordered != before:
            with storing(self._index):
                temporary = self._session.new_path("index")
                replace_file(self._index, Index(ordered).to_json(), temporary=temporary)


def _names(name: str) -> tuple[str, ...]:
    """The names that an image called ``name`` is listed under."""
    reference = parse_reference(name)
    if reference.digest is not None or reference.tag is None:
        raise UsageError(f"{name!r} has a digest, so it can't be given to an image", hint="use NAME:TAG")
    familiar = reference.familiar()
    if reference.tag == DEFAULT_TAG:
        return (familiar, familiar.removesuffix(f":{DEFAULT_TAG}"))
    return (familiar,)
