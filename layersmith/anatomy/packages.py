"""The packages of an image, by what their managers note in its files. In: stacks of layers. Out: `PackageChange`s.

dpkg (/var/lib/dpkg/status, and status.d of distroless images), apk (/lib/apk/db/installed), rpm (see
`rpmdb`), pip (dist-info and egg-info), npm (node_modules/*/package.json). Whoever made the image
wrote these: what is too large, or makes no sense, is passed over.
"""

from __future__ import annotations

import email.parser
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress

from layersmith.anatomy.rpmdb import rpm_packages
from layersmith.dataclass import dataclass
from layersmith.layer.blob import open_tar
from layersmith.layer.entry import REG
from layersmith.layer.tar.reader import Body
from layersmith.layer.view import View
from layersmith.oci.descriptor import Layer
from layersmith.store import Store

MOST_DATABASE = 256 << 20
MOST_METADATA = 4 << 20
"""Bytes of a manager's database, and of one package's own file."""

Named = tuple[str, str, str]
"""A package's name, version and architecture (``""``: none)."""


@dataclass(frozen=True, slots=True)
class PackageChange:
    """``kind`` is ``A``, ``C`` or ``D``; ``place`` is the directory of a package that can be there more than once."""

    kind: str
    manager: str
    name: str
    before: str
    after: str
    place: str = ""


def package_changes(store: Store, old: Sequence[Layer], new: Sequence[Layer]) -> list[PackageChange]:
    """Which packages ``new`` (layers, lowest first) has added, removed, or in other versions than ``old``."""
    views = View(store, old), View(store, new)
    files = [dict(_package_files(view)) for view in views]
    same = {
        path for path in files[0].keys() & files[1].keys() if views[0].origin(path) == views[1].origin(path)
    }
    before, after = (
        _packages(store, view, {path: reader for path, reader in found.items() if path not in same})
        for view, found in zip(views, files, strict=True)
    )
    changes = []
    for key in sorted(before.keys() | after.keys()):
        manager, name, place, _ = key
        versions = before.get(key, ""), after.get(key, "")
        if versions[0] != versions[1]:
            kind = "C" if all(versions) else "A" if versions[1] else "D"
            changes.append(PackageChange(kind, manager, name, *versions, place))
    return changes


# Where packages are noted

Reader = Callable[[bytes], Iterator[Named]]

_DATABASES = {
    b"var/lib/dpkg/status": "dpkg",
    b"lib/apk/db/installed": "apk",
    b"usr/lib/apk/db/installed": "apk",
    **{
        directory + name: "rpm"
        for directory in (b"var/lib/rpm/", b"usr/lib/sysimage/rpm/")
        for name in (b"rpmdb.sqlite", b"Packages", b"Packages.db")
    },
}


def _package_files(view: View) -> Iterator[tuple[bytes, str]]:
    """(path, manager) of every file that notes packages."""
    for entry in view.walk():
        if entry.kind != REG:
            continue
        path = entry.path
        manager = _DATABASES.get(path)
        if manager is not None:
            if entry.size <= MOST_DATABASE:
                yield path, manager
        elif entry.size <= MOST_METADATA:
            if path.startswith(b"var/lib/dpkg/status.d/") and not path.endswith(b".md5sums"):
                yield path, "dpkg"
            elif path.endswith((b".dist-info/METADATA", b".egg-info/PKG-INFO", b".egg-info")):
                yield path, "pip"
            elif path.endswith(b"/package.json") and _is_module(path):
                yield path, "npm"


def _is_module(path: bytes) -> bool:
    """``…/node_modules/name/package.json`` or ``…/node_modules/@scope/name/package.json``."""
    parts = path.split(b"/")[:-1]
    return parts[-2:-1] == [b"node_modules"] or (
        parts[-3:-2] == [b"node_modules"] and parts[-2].startswith(b"@")
    )


def _packages(store: Store, view: View, files: Mapping[bytes, str]) -> dict[tuple[str, str, str, str], str]:
    """(manager, name, place, architecture) to version."""
    found = {}
    for path, data in _contents(store, view, files):
        manager = files[path]
        place = os.fsdecode(path.rpartition(b"/")[0].rpartition(b"/")[0]) if manager in ("pip", "npm") else ""
        with suppress(ValueError):
            for name, version, architecture in _READERS[manager](data):
                found[manager, name, place, architecture] = version
    return found


def _contents(store: Store, view: View, paths: Mapping[bytes, str]) -> Iterator[tuple[bytes, bytes]]:
    """The content of each file, every layer being read once."""
    wanted: dict[Layer, set[bytes]] = {}
    for path in paths:
        layer = view.origin(path)
        entry = view.lookup(path)
        if layer is not None and entry is not None:
            if entry.link:
                yield path, b"".join(view.content(path))
            else:
                wanted.setdefault(layer, set()).add(path)
    for layer, names in wanted.items():
        with open_tar(store, layer) as tar:
            for entry in tar:
                if entry.kind == REG and entry.path in names:
                    yield entry.path, Body(tar, entry).read(entry.size)


# What the managers write


def _dpkg(data: bytes) -> Iterator[Named]:
    """deb822 paragraphs (deb-control(5)); packages that are not installed are in there, too."""
    for fields in _paragraphs(data, b"\n\n", ": "):
        status = fields.get("Status", "install ok installed")
        if status.endswith(" installed") and fields.get("Package") and fields.get("Version"):
            yield fields["Package"], fields["Version"], fields.get("Architecture", "")


def _apk(data: bytes) -> Iterator[Named]:
    """Paragraphs of single letters (apk-installed(5))."""
    for fields in _paragraphs(data, b"\n\n", ":"):
        if fields.get("P") and fields.get("V"):
            yield fields["P"], fields["V"], fields.get("A", "")


def _paragraphs(data: bytes, between: bytes, separator: str) -> Iterator[dict[str, str]]:
    for paragraph in data.split(between):
        lines = paragraph.decode("utf-8", "replace").split("\n")
        parts = (line.partition(separator) for line in lines if line[:1].strip())
        yield {name: value.strip() for name, found, value in parts if found}


def _pip(data: bytes) -> Iterator[Named]:
    """Core metadata, which is a mail's headers."""
    fields = email.parser.HeaderParser().parsestr(data.decode("utf-8", "replace"))
    name, version = fields.get("Name"), fields.get("Version")
    if name and version:
        yield str(name).strip(), str(version).strip(), ""


def _npm(data: bytes) -> Iterator[Named]:
    try:
        value = json.loads(data)
    except RecursionError:
        return
    if (
        isinstance(value, dict)
        and isinstance(value.get("name"), str)
        and isinstance(value.get("version"), str)
    ):
        yield value["name"], value["version"], ""


_READERS: dict[str, Reader] = {"dpkg": _dpkg, "apk": _apk, "rpm": rpm_packages, "pip": _pip, "npm": _npm}
