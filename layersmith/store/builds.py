"""`Builds`: what was built here. In: a `Build`. Out: the same, for as long as it is one of the recent ones.

    builds/<id>/build.json          the record
    builds/<id>/logs/<step>         all that a step wrote, in the CRI log format
    builds/<id>/failed/<step>/      what a failed RUN left: see `layersmith.solve.failed`
    builds/listings/<digest>        what COPY or a bind mount found in its sources, by the digest that is in the key

The directory is locked by its build for as long as that runs. An id is written in the letters k to z, so that it is
never taken for the beginning of a digest or of a container's id.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from layersmith.dataclass import replace
from layersmith.errors import NotFoundError, StoreError
from layersmith.oci.document import canonical
from layersmith.store.build_record import Build
from layersmith.store.files import storing
from layersmith.store.locks import try_lock_directory

if TYPE_CHECKING:
    pass

KEEP = 100
"""How many builds are remembered, and half as many again before the oldest of them are removed."""
KEEP_FAILED = 3
"""Of how many builds the files that a failed step left are kept."""

RECORD = "build.json"
LISTINGS = "listings"
_SHA256 = 64
"""Digits."""
FAILED = "step.json"
_LETTERS = str.maketrans("0123456789abcdef", "zyxwvutsrqponmlk")


class Builds:
    """The builds of a store. ``trash`` moves a directory out of the way, to be deleted later."""

    def __init__(self, root: Path, trash: Callable[[Path], None]) -> None:
        self.root = root
        self._trash = trash

    def begin(self) -> tuple[str, int]:
        """A new build's id, and the lock on its directory: an fd to close once the record is whole."""
        with storing(self.root):
            while True:
                name = new_id()
                try:
                    (self.root / name).mkdir(mode=0o700)
                except FileExistsError:
                    continue
                except FileNotFoundError:
                    self.root.mkdir(mode=0o700)
                    continue
                fd = try_lock_directory(self.root / name)
                if fd is not None:
                    return name, fd

    def directory(self, build: str) -> Path:
        """Where everything of a build lies."""
        return self.root / build

    def log(self, build: str, step: int) -> Path:
        """The file with all that a step wrote; it exists if it wrote anything."""
        return self.root / build / "logs" / str(step)

    def failed(self, build: str, step: int) -> Path:
        """The directory of what a failed step left; it exists if that was kept."""
        return self.root / build / "failed" / str(step)

    def write(self, build: Build) -> None:
        """Write the record; a reader sees the old one or the new one, whole. A power failure may lose it."""
        path = self.root / build.id / RECORD
        temporary = path.with_suffix(".new")
        with storing(path):
            temporary.write_bytes(canonical(build.to_json()))
            temporary.rename(path)

    def read(self, build: str) -> Build:
        """The record of the build with this id.

        Raises:
            NotFoundError: there is none.
            StoreError: it is damaged.
        """
        path = self.root / build / RECORD
        try:
            found = Build.parse(path.read_bytes())
        except FileNotFoundError:
            raise NotFoundError(f"there is no build {build}", hint="`layersmith builds` lists them") from None
        except ValueError as error:
            raise StoreError(
                f"the record of build {build} is damaged: {error}", hint=f"`layersmith builds rm {build}`"
            ) from error
        if found.result == "running" and not self.is_running(build):
            return replace(found, result="killed")
        return found

    def is_running(self, build: str) -> bool:
        """Whether its process is still at it."""
        path = self.root / build
        fd = try_lock_directory(path)
        if fd is None:
            return path.exists()
        os.close(fd)
        return False

    def ids(self) -> list[str]:
        """All builds, the newest first."""
        try:
            with os.scandir(self.root) as entries:
                found = [(_age(entry.path), entry.name) for entry in entries if entry.name != LISTINGS]
        except FileNotFoundError:
            return []
        return [name for _, name in sorted(found, reverse=True)]

    def recent(self, most: int | None = None) -> Iterator[Build]:
        """The builds, the newest first; without those whose record is damaged or not there yet."""
        for name in self.ids()[:most]:
            with contextlib.suppress(StoreError, NotFoundError):
                yield self.read(name)

    def texts(self, most: int) -> Iterator[tuple[str, bytes]]:
        """Ids and records of the ``most`` latest builds, the newest first; the records not parsed, nor looked at."""
        for name in self.ids()[:most]:
            with contextlib.suppress(FileNotFoundError):
                yield name, (self.root / name / RECORD).read_bytes()

    def find(self, reference: str) -> Build:
        """A build by the beginning of its id, by a name that it gave its image, by ``^N`` (the N-th before the last),
        or, if ``reference`` is empty, the last one.

        Raises:
            NotFoundError: there is none, or several begin so.
            StoreError: its record is damaged.
        """
        if not reference or reference == "^" or (reference[0] == "^" and reference[1:].isdecimal()):
            position = 0 if not reference else int(reference[1:] or 1)
            found = list(islice(self.recent(), position + 1))
            if position < len(found):
                return found[position]
            raise NotFoundError("there is no such build" if found else "nothing was built here yet")
        if reference.strip("klmnopqrstuvwxyz") == "":
            matching = [name for name in self.ids() if name.startswith(reference)]
            if len(matching) == 1:
                return self.read(matching[0])
            if matching:
                raise NotFoundError(
                    f"{len(matching)} builds begin with {reference}", hint="write more of the id"
                )
        names = {reference, f"{reference}:latest"}
        for build in self.recent():
            if names & set(build.names):
                return build
        raise NotFoundError(f"there is no build {reference}", hint="`layersmith builds` lists them")

    def remove(self, build: str) -> bool:
        """Forget a build with its logs; False if it still runs."""
        path = self.root / build
        fd = try_lock_directory(path)
        if fd is None:
            return False
        try:
            self._trash(path)
        finally:
            os.close(fd)
        return True

    def forget_old(self, keep: int = KEEP) -> None:
        """Remove the oldest builds once there are far more than ``keep``, and old failed steps' files."""
        with contextlib.suppress(FileNotFoundError):
            if len(os.listdir(self.root)) <= keep + keep // 2:
                return
            for name in self.ids()[keep:]:
                self.remove(name)
            self._forget_listings()

    def _forget_listings(self) -> None:
        """Remove the listings that no record speaks of."""
        spoken_of = {
            digest.rpartition(":")[2]
            for build in self.recent()
            for step in build.steps
            for digest in (step.parts or {}).get("inputs", {}).values()
        }
        for path in (self.root / LISTINGS).iterdir():
            if path.name not in spoken_of:
                path.unlink(missing_ok=True)

    def put_listing(self, digest: str, paths: Iterable[tuple[str, str]]) -> None:
        """Keep what has this digest: (path, fingerprint) pairs, as `layersmith.execute.digest.CopyInputs` has them."""
        path = self._listing(digest)
        if path.exists():
            return
        import zlib

        lines = (f"{name}\0{_shortened(fingerprint)}" for name, fingerprint in paths)
        data = zlib.compress("\0".join(lines).encode("utf-8", "surrogateescape"), 1)
        temporary = path.with_name(f"{path.name}.{os.urandom(4).hex()}")
        with storing(path):
            path.parent.mkdir(mode=0o700, exist_ok=True)
            temporary.write_bytes(data)
            temporary.rename(path)

    def listing(self, digest: str) -> dict[str, str] | None:
        """Fingerprints by path of what has this digest; None if they were not kept."""
        import zlib

        try:
            words = zlib.decompress(self._listing(digest).read_bytes()).decode("utf-8", "surrogateescape")
        except (FileNotFoundError, zlib.error):
            return None
        parts = words.split("\0") if words else []
        return dict(zip(parts[::2], parts[1::2], strict=False))

    def _listing(self, digest: str) -> Path:
        return self.root / LISTINGS / digest.rpartition(":")[2]

    def kept(self) -> set[str]:
        """The digests and DiffIDs of the layers that kept failed steps stand on: not to be pruned."""
        import json

        found: set[str] = set()
        for path in self.root.glob(f"*/failed/*/{FAILED}"):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                step = json.loads(path.read_bytes())
                for layers in (step["layers"], *step["inputs"].values()):
                    found.update(layer[name] for layer in layers for name in ("digest", "diffID"))
        return found

    def forget_failed(self, keep: int = KEEP_FAILED) -> None:
        """Remove the files of failed steps, but those of the last ``keep`` builds that have any."""
        having = [name for name in self.ids() if (self.root / name / "failed").exists()]
        for name in having[keep:]:
            if not self.is_running(name):
                self._trash(self.root / name / "failed")


def _shortened(fingerprint: str) -> str:
    """SHA-256 can't be compressed, and a few digits of it are enough to tell two contents of a path apart."""
    cut = len(fingerprint) - _SHA256
    return fingerprint[: cut + 12] if cut > 0 and fingerprint[cut - 1] == " " else fingerprint


def new_id() -> str:
    """Twelve letters, by chance."""
    return os.urandom(6).hex().translate(_LETTERS)


def _age(path: str) -> int:
    """When a build ended, or last began a step; for sorting."""
    for name in (f"{path}/{RECORD}", path):
        with contextlib.suppress(FileNotFoundError):
            return os.stat(name).st_mtime_ns
    return 0
