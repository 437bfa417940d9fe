"""`CacheMounts`: cache/: directories that outlive builds (RUN --mount=type=cache). In: an id. Out: a directory, held.

    cache/<name>/id          the identity, whose SHA-256 is the name: the id, and NUL and a path where ``from=`` filled it
    cache/<name>/<n>/        the content; n is 0 but for further copies of ``sharing=private``
    cache/<name>/<n>.lock    held shared by every user, alone by ``locked`` and ``private``

The modification time of ``id`` is that of the last use.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from layersmith.dataclass import dataclass
from layersmith.errors import NotFoundError, StoreError
from layersmith.store.files import storing
from layersmith.store.locks import locked

_SHORT = 12


@dataclass(frozen=True, slots=True)
class KeptMount:
    """A cache mount that has content. ``copies`` are its directories, the first being the one that is shared.

    ``source`` is where its first content came from, or None; ``used`` is in seconds since the epoch.
    """

    name: str
    id: str
    source: str | None
    home: Path
    copies: tuple[Path, ...]
    used: float

    @property
    def short(self) -> str:
        """The name as listings show it."""
        return self.name[:_SHORT]


class CacheMounts:
    """The cache mounts of a store."""

    def __init__(self, directory: Path, trash: Callable[[Path], None]) -> None:
        self._directory = directory
        self._trash = trash

    @contextmanager
    def hold(
        self, id: str, source: str | None, sharing: str, create: Callable[[Path], None]
    ) -> Iterator[Path]:
        """The directory for a step, made by ``create`` if there is none.

        ``shared`` gives it to any number of steps, ``locked`` to one after the other, ``private`` a free one to each.
        ``create`` has to make the directory that it is given appear whole.
        """
        home = self._home(id, source)
        with ExitStack() as held:
            number = _hold(home, sharing, held)
            path = home / str(number)
            if not path.exists():
                with locked(home / "create.lock"):
                    if not path.exists():
                        create(path)
            with storing(home):
                os.utime(home / "id")
            yield path

    @contextmanager
    def absent(self, id: str, source: str | None) -> Iterator[Path | None]:
        """Where the content belongs, for a block that makes it; None if there is some, or somebody is at it."""
        home = self._home(id, source)
        try:
            with locked(home / "0.lock", wait=False):
                yield None if (home / "0").exists() else home / "0"
        except StoreError:
            if not (home / "0").exists():
                raise
            yield None

    @contextmanager
    def quiet(self, mount: KeptMount) -> Iterator[Path]:
        """The content while no step that wants it for itself is at it."""
        with locked(mount.home / "0.lock", shared=True):
            yield mount.copies[0]

    def list(self) -> tuple[KeptMount, ...]:
        """All that have content, by id."""
        found = [self._kept(home) for home in self._directory.iterdir()]
        return tuple(sorted((m for m in found if m is not None), key=lambda m: (m.id, m.source or "")))

    def get(self, id: str, source: str | None) -> KeptMount | None:
        """The one with this identity, if it has content."""
        return self._kept(self._directory / _name(id, source))

    def find(self, word: str) -> tuple[KeptMount, ...]:
        """Those with the id ``word``, or whose name begins with it. Raises NotFoundError if there is none."""
        mounts = self.list()
        found = tuple(mount for mount in mounts if mount.id == word)
        if not found and len(word) >= 4:
            found = tuple(mount for mount in mounts if mount.name.startswith(word))
        if not found:
            raise NotFoundError(f"no cache mount {word!r}", hint="`layersmith cache mounts` lists them")
        return found

    def remove(self, mount: KeptMount) -> bool:
        """Delete the content; False if a step is using any of it, which is then left."""
        whole = True
        for path in mount.copies:
            try:
                with locked(path.with_name(f"{path.name}.lock"), wait=False):
                    self._trash(path)
            except StoreError:
                whole = False
        return whole

    def in_use(self, mount: KeptMount) -> bool:
        """Whether a step has any of it just now."""
        for path in mount.copies:
            try:
                with locked(path.with_name(f"{path.name}.lock"), wait=False):
                    pass
            except StoreError:
                return True
        return False

    def _home(self, id: str, source: str | None) -> Path:
        home = self._directory / _name(id, source)
        identity = home / "id"
        if not identity.exists():
            with storing(home):
                home.mkdir(mode=0o700, exist_ok=True)
                temporary = home / f"id.{os.urandom(4).hex()}"
                temporary.write_text(_identity(id, source), errors="surrogateescape")
                temporary.rename(identity)
        return home

    def _kept(self, home: Path) -> KeptMount | None:
        try:
            identity = (home / "id").read_text(errors="surrogateescape")
            used = (home / "id").stat().st_mtime
            copies = sorted(
                (path for path in home.iterdir() if path.name.isdigit()), key=lambda path: int(path.name)
            )
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not copies:
            return None
        id, separator, source = identity.partition("\0")
        return KeptMount(home.name, id, source if separator else None, home, tuple(copies), used)


def _identity(id: str, source: str | None) -> str:
    """Where the first content came from is part of it: those are different caches."""
    return id if source is None else f"{id}\0{source}"


def _name(id: str, source: str | None) -> str:
    return hashlib.sha256(_identity(id, source).encode("utf-8", "surrogateescape")).hexdigest()


def _hold(home: Path, sharing: str, held: ExitStack) -> int:
    """Take the lock that ``sharing`` asks for; the number of the copy that it is for."""
    if sharing != "private":
        held.enter_context(locked(home / "0.lock", shared=sharing == "shared"))
        return 0
    number = 0
    while True:
        try:
            held.enter_context(locked(home / f"{number}.lock", wait=False))
        except StoreError:
            number += 1
        else:
            return number
