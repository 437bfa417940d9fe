"""Are two builds of an image the same, bit by bit? In: two images, each in its store. Out: what differs, path by path."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from layersmith.dataclass import dataclass
from layersmith.image import Image
from layersmith.layer.blob import open_tar
from layersmith.layer.entry import Entry
from layersmith.oci.timestamp import rfc3339

if TYPE_CHECKING:
    from layersmith.oci.descriptor import Layer
    from layersmith.store import Store

SHOWN = 1000
"""Differences of one layer that are told at most."""

_MEMBERS = ("kind", "mode", "uid", "gid", "mtime", "size", "link", "major", "minor", "xattrs")


@dataclass(frozen=True, slots=True)
class Difference:
    """``what`` of ``path`` (or a member of the config) is ``first`` in one build and ``second`` in the other.

    Of a path: ``only`` (it is in one of them), ``content``, ``order``, or a member of `layersmith.layer.entry.Entry`.
    """

    path: str
    what: str
    first: str
    second: str

    def to_json(self) -> dict[str, str]:
        return {"path": self.path, "what": self.what, "first": self.first, "second": self.second}


@dataclass(frozen=True, slots=True)
class LayerVerdict:
    """Layer ``number`` (from 0, the lowest) of both builds; None where one has fewer. ``more`` were left out."""

    number: int
    created_by: str
    first: Layer | None
    second: Layer | None
    differences: tuple[Difference, ...] = ()
    more: int = 0

    @property
    def identical(self) -> bool:
        """Whether the blobs are the same bytes."""
        return self.first is not None and self.second is not None and self.first == self.second

    def to_json(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "createdBy": self.created_by,
            "identical": self.identical,
            "first": None if self.first is None else self.first.descriptor.digest,
            "second": None if self.second is None else self.second.descriptor.digest,
            "differences": [difference.to_json() for difference in self.differences],
            "more": self.more,
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """What comparing two images came to; ``config`` are the members of the configs that differ."""

    layers: tuple[LayerVerdict, ...]
    config: tuple[Difference, ...]

    @property
    def identical(self) -> bool:
        """Whether every layer is the same bytes, and the config as well."""
        return all(layer.identical for layer in self.layers) and not self.config

    def to_json(self) -> dict[str, Any]:
        return {
            "identical": self.identical,
            "layers": [layer.to_json() for layer in self.layers],
            "config": [difference.to_json() for difference in self.config],
        }


def compare(first: tuple[Store, Image], second: tuple[Store, Image]) -> Verdict:
    """Compare two images layer by layer; only layers that differ are read.

    Raises:
        NotFoundError, DigestMismatchError, TransportError: a layer is missing, damaged or no tar.
    """
    (store, image), (other_store, other) = first, second
    made = [entry.created_by for entry in image.config.history if not entry.empty_layer]
    verdicts = []
    for number in range(max(len(image.layers), len(other.layers))):
        ours = image.layers[number] if number < len(image.layers) else None
        theirs = other.layers[number] if number < len(other.layers) else None
        found: list[Difference] = []
        if ours is not None and theirs is not None and ours != theirs:
            found = list(_layer_differences((store, ours), (other_store, theirs)))
        created_by = made[number] if number < len(made) else ""
        more = max(0, len(found) - SHOWN)
        verdicts.append(LayerVerdict(number, created_by, ours, theirs, tuple(found[:SHOWN]), more))
    return Verdict(tuple(verdicts), tuple(_config_differences(image, other)))


def _layer_differences(one: tuple[Store, Layer], other: tuple[Store, Layer]) -> Iterator[Difference]:
    if one[1].diff_id == other[1].diff_id:
        ours, theirs = one[1].descriptor, other[1].descriptor
        yield Difference("", "compression", f"{ours.digest}", f"{theirs.digest}")
        return
    before, after = _files(*one), _files(*other)
    for path in sorted({*before, *after}):
        if path not in after:
            yield Difference(_text(path), "only", "there", "not there")
        elif path not in before:
            yield Difference(_text(path), "only", "not there", "there")
        else:
            yield from _file_differences(_text(path), before[path], after[path])
    if list(before) != list(after) and set(before) == set(after):
        yield Difference("", "order", "", "of the same paths another one")


def _files(store: Store, layer: Layer) -> dict[bytes, tuple[Entry, str]]:
    """Each entry of a layer with the digest of its content, in the order of the tar."""
    found = {}
    with open_tar(store, layer) as tar:
        for entry in tar:
            content = hashlib.sha256()
            while piece := tar.take():
                content.update(piece)
            found[entry.path] = (entry, content.hexdigest())
    return found


def _file_differences(path: str, before: tuple[Entry, str], after: tuple[Entry, str]) -> Iterator[Difference]:
    for member in _MEMBERS:
        ours, theirs = getattr(before[0], member), getattr(after[0], member)
        if ours != theirs:
            yield Difference(path, member, _value(member, ours), _value(member, theirs))
    if before[1] != after[1]:
        yield Difference(path, "content", f"sha256:{before[1]}", f"sha256:{after[1]}")


def _text(path: bytes) -> str:
    """A path or a name in UTF-8, other bytes as escapes."""
    return path.decode("utf-8", "backslashreplace")


def _value(member: str, value: Any) -> str:
    match member:
        case "mode":
            return f"{value:04o}"
        case "mtime":
            return rfc3339(value) if 0 <= value < 1 << 37 else str(value)
        case "link" | "kind":
            return _text(value)
        case "xattrs":
            return " ".join(f"{_text(name)}={data.hex()}" for name, data in value)
    return str(value)


def _config_differences(image: Image, other: Image) -> Iterator[Difference]:
    """Members of the configs that differ, the layers' own names aside; of the history every line."""
    import json

    ours, theirs = json.loads(image.config.to_json()), json.loads(other.config.to_json())
    for document in (ours, theirs):
        document.pop("rootfs", None)
        for number, entry in enumerate(document.pop("history", ())):
            document[f"history[{number}]"] = entry
    for name in sorted({*ours, *theirs}):
        if ours.get(name) != theirs.get(name):
            yield Difference("", name, json.dumps(ours.get(name)), json.dumps(theirs.get(name)))
