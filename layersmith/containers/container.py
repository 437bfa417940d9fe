"""`Container` and `Containers`: containers on disk. In: the store's root. Out: who there is, and what became of them.

    containers/<id>/config.json   what it was asked to be
                    status        what became of it (see `status`)
                    log           its output
                    upper, work   what it changed
                    overlay's own scratch space
    containers/names/<name>       a link to the id: making a link is what makes a name unique

A container's directory is locked by its supervisor, from before config.json exists to the end. So a directory that nobody
has locked is at rest, whatever its status says: one without config.json was never finished, and one that claims to
run was killed with its supervisor.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from layersmith.containers.config import ContainerConfig
from layersmith.containers.names import random_name
from layersmith.containers.status import CREATED, EXITED, KILLED, RUNNING, Status, append_status, read_status
from layersmith.dataclass import dataclass, replace
from layersmith.errors import NotFoundError, StoreError, UsageError
from layersmith.store.files import explained, storing
from layersmith.store.locks import try_lock_directory

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_ID = re.compile(r"[0-9a-f]{64}")
_NAMES = "names"
_CRASHED = "layersmith was killed"


class ConflictError(StoreError):
    """Another container has the name, or the container is running (or not) when it should not (or should)."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Container:
    """A container in ``directory``."""

    directory: Path
    config: ContainerConfig

    @property
    def id(self) -> str:
        return self.config.id

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def upper(self) -> Path:
        """What it changed: an overlay's upper directory."""
        return self.directory / "upper"

    @property
    def work(self) -> Path:
        return self.directory / "work"

    @property
    def log(self) -> Path:
        return self.directory / "log"

    def status(self) -> Status:
        """What became of it. A container whose supervisor is gone does not run, and never will by itself."""
        try:
            fd = os.open(self.directory / "status", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return Status(CREATED, self.config.created)
        try:
            # In this order: a status read after the lock was seen free is the last one.
            held = is_locked(self.directory)
            status = read_status(fd)
        finally:
            os.close(fd)
        if status is None or not held:
            return self._at_rest(status)
        return status

    def record(self, status: Status) -> None:
        """Append ``status``; its supervisor's duty."""
        append_status(self.directory / "status", status)

    def wait(self) -> Status:
        """Block until it has no supervisor, that is, until it has ended; what became of it.

        Raises NotFoundError: it was removed before.
        """
        try:
            directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFoundError(f"container {self.name} was removed") from None
        try:
            # Opened before it can be removed, which the end of a --rm container is.
            fd = os.open("status", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
            try:
                fcntl.flock(directory, fcntl.LOCK_SH)
                return self._at_rest(read_status(fd))
            finally:
                os.close(fd)
        except FileNotFoundError:
            raise NotFoundError(f"container {self.name} was removed") from None
        finally:
            os.close(directory)

    def _at_rest(self, status: Status | None) -> Status:
        """``status`` as it is to be read when nobody supervises the container."""
        if status is None:
            return Status(CREATED, self.config.created)
        if status.state == RUNNING:
            return replace(status, state=EXITED, code=KILLED, error=_CRASHED, pid=0, supervisor=0)
        return status

    def running(self) -> Status:
        """Its status while it runs. Raises ConflictError if it does not."""
        status = self.status()
        if status.state != RUNNING:
            raise ConflictError(
                f"container {self.name} is not running", hint="`layersmith ps -a` says what became of it"
            )
        return status


def is_locked(directory: Path) -> bool:
    """Whether somebody supervises the container in ``directory``."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # Shared, so that two who look at the same time do not take each other for a supervisor.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


class Containers:
    """The containers of the store at ``root``, which need not be open: reading takes no lock and no database."""

    def __init__(self, root: Path) -> None:
        self.directory = root / "containers"
        self._names = self.directory / _NAMES

    # Reading

    def list(self, damaged: Callable[[StoreError], object] | None = None) -> tuple[Container, ...]:
        """All of them, the newest first. Of each damaged one ``damaged`` is told; without it, that is raised."""
        found = []
        for name in self._ids():
            try:
                container = self._load(name)
            except StoreError as error:
                if damaged is None:
                    raise
                damaged(error)
            else:
                found += [container] if container else []
        return tuple(sorted(found, key=lambda c: (c.config.created, c.id), reverse=True))

    def _ids(self) -> tuple[str, ...]:
        try:
            return tuple(name for name in os.listdir(self.directory) if _ID.fullmatch(name))
        except FileNotFoundError:
            return ()

    def _load(self, name: str) -> Container | None:
        directory = self.directory / name
        try:
            data = (directory / "config.json").read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise explained(error, directory) from error
        try:
            return Container(directory, ContainerConfig.from_json(data))
        except ValueError as error:
            raise StoreError(
                f"container {name[:12]} is damaged, or from another version of layersmith: {error}",
                hint=f"remove the directory {directory}",
            ) from None

    def find(self, text: str) -> Container:
        """The container that a person means: a name, an id, or the unambiguous beginning of an id.

        Raises:
            NotFoundError: there is none, or more than one.
        """
        matches = [self._named(text)] if NAME.fullmatch(text) else []
        if not any(matches) and text and not set(text) - set("0123456789abcdef"):
            matches = [self._load(name) for name in self._ids() if name.startswith(text)]
        found = [container for container in matches if container is not None]
        if len(found) == 1:
            return found[0]
        if found:
            raise NotFoundError(
                f"{text!r} is the beginning of {len(found)} containers' ids", hint="write more of it"
            )
        raise NotFoundError(f"no container {text!r}", hint="`layersmith ps -a` lists those there are")

    def _named(self, name: str) -> Container | None:
        try:
            identity = os.readlink(self._names / name)
        except OSError:
            return None
        return self._load(identity) if _ID.fullmatch(identity) else None

    def images(self) -> dict[str, str]:
        """Digests of manifests that containers are made of, each with the name of one of them: `gc.prune`'s ``keep``."""
        return {container.config.manifest.digest: container.name for container in self.list()}

    # Making and removing

    @contextlib.contextmanager
    def create(self, make: Callable[[str, str], ContainerConfig], name: str = "") -> Iterator[Container]:
        """A new container, supervised by the caller for the block.

        ``make(id, name)`` gives its config; without a ``name`` it gets a random one. Raises UsageError, ConflictError,
        StoreError; then there is no new container.
        """
        if name and not NAME.fullmatch(name):
            raise UsageError(
                f"invalid container name {name!r}",
                hint="two or more letters, digits, '_', '.' or '-', the first a letter or digit",
            )
        directory, lock = self._new_directory()
        try:
            try:
                name = self._take_name(name, directory.name)
                try:
                    config = make(directory.name, name)
                    self._fill(directory, config)
                except BaseException:
                    (self._names / name).unlink(missing_ok=True)
                    raise
            except BaseException:
                _remove_unfinished(directory)
                raise
            yield Container(directory, config)
        finally:
            os.close(lock)

    def _new_directory(self) -> tuple[Path, int]:
        with storing(self.directory):
            self._names.mkdir(mode=0o700, parents=True, exist_ok=True)
            while True:
                directory = self.directory / os.urandom(32).hex()
                directory.mkdir(mode=0o700)
                lock = try_lock_directory(directory)
                if lock is not None:  # else a sweep came in between
                    return directory, lock

    def _take_name(self, name: str, identity: str) -> str:
        wanted = name or random_name()
        while not self._link(wanted, identity):
            owner = self._owner(wanted)
            if owner and name:
                raise ConflictError(
                    f"the name {name} belongs to container {owner[:12]}",
                    hint=f"`layersmith rm {name}` removes that one",
                )
            if owner:
                wanted = f"{random_name()}{os.urandom(1)[0] % 10}"
        return wanted

    def _link(self, name: str, identity: str) -> bool:
        with storing(self._names):
            try:
                os.symlink(identity, self._names / name)
            except FileExistsError:
                return False
        return True

    def _owner(self, name: str) -> str | None:
        """Whose ``name`` is; None if it was nobody's any more, and now is free."""
        link = self._names / name
        try:
            identity = os.readlink(link)
        except FileNotFoundError:
            return None
        if _ID.fullmatch(identity) and (self.directory / identity).is_dir():
            return identity
        # Aside first: whoever else finds the dead link may already have replaced it.
        aside = self._names / f".{os.urandom(8).hex()}"
        with contextlib.suppress(FileNotFoundError):
            link.rename(aside)
            if os.readlink(aside) != identity:
                aside.rename(link)
            else:
                aside.unlink()
        return None

    @staticmethod
    def _fill(directory: Path, config: ContainerConfig) -> None:
        with storing(directory):
            (directory / "upper").mkdir()
            (directory / "upper").chmod(0o755)
            (directory / "work").mkdir(mode=0o700)
            # Not synced: after a power failure, a container is what the journal has of it.
            temporary = directory / "config.new"
            temporary.write_bytes(config.to_json())
            (directory / "status").touch(0o600)
            temporary.rename(directory / "config.json")

    @contextlib.contextmanager
    def supervise(self, container: Container) -> Iterator[None]:
        """Hold the lock of ``container``, which is at rest. Raises ConflictError, NotFoundError."""
        deadline = time.monotonic() + 1.0
        lock = None
        while lock is None:
            lock = try_lock_directory(container.directory)
            if lock is None:
                if not container.directory.exists():
                    raise NotFoundError(f"container {container.name} was removed")
                if container.status().state == RUNNING:
                    raise ConflictError(f"container {container.name} is running", hint="stop it first")
                # Whoever only looks holds the lock for a moment.
                if time.monotonic() > deadline:
                    raise ConflictError(f"container {container.name} is in use")
                time.sleep(0.01)
        try:
            yield
        finally:
            os.close(lock)

    def remove(self, container: Container, trash: Callable[[Path], None]) -> None:
        """Remove ``container``, whose lock the caller holds; ``trash`` is `Store.trash`."""
        link = self._names / container.name
        with contextlib.suppress(OSError):
            if os.readlink(link) == container.id:
                link.unlink()
        trash(container.directory)

    def sweep(self, trash: Callable[[Path], None]) -> None:
        """Remove what crashes left: containers never finished, and those with ``--rm`` whose supervisor is gone."""
        for name in self._ids():
            directory = self.directory / name
            lock = try_lock_directory(directory)
            if lock is None:
                continue
            try:
                container = self._load(name)
                if container is None:
                    trash(directory)
                elif container.config.auto_remove:
                    self.remove(container, trash)
            except StoreError:
                continue  # a damaged config: for `ps` to show, and for the person to decide
            finally:
                os.close(lock)
        with contextlib.suppress(FileNotFoundError):
            for link in os.listdir(self._names):
                self._owner(link)


def _remove_unfinished(directory: Path) -> None:
    for name in ("upper", "work"):
        with contextlib.suppress(OSError):
            (directory / name).rmdir()
    for name in ("config.new", "config.json", "status"):
        (directory / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        directory.rmdir()
