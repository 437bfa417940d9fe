"""Limits by control groups. In: `Limits`. Out: a `Cgroup` whose directories a `Sandbox` joins.

Version 2 (one tree) and version 1 (a tree for each controller) alike; see cgroups(7) and the kernel's
admin-guide/cgroup-v2. Groups are made below the one that this process is in, so limits around layersmith hold for what
it runs. Where a limit can't be had that is an error, never silence.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from pathlib import Path
from types import TracebackType

from layersmith.dataclass import dataclass
from layersmith.errors import SandboxError
from layersmith.linux.limits import NO_LIMITS, Limits

ROOT = Path("/sys/fs/cgroup")
PARENT = "layersmith"
"""The group that holds all of ours."""


OPTIONAL_FILES = frozenset(("memory.swap.max", "memory.memsw.limit_in_bytes"))
"""Missing where the kernel does not count swap (swapaccount=0)."""


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One tree: ``directory`` is this process' own group in it, ``controllers`` what it can limit."""

    version: int
    directory: Path
    controllers: frozenset[str]


class Cgroup:
    """A group in each tree that a limit needs. A context manager that removes them."""

    def __init__(self, limits: Limits, groups: tuple[tuple[int, Path], ...]) -> None:
        self.limits = limits
        self._groups = groups

    @property
    def directories(self) -> tuple[str, ...]:
        """For `Sandbox.cgroups`."""
        return tuple(os.fspath(path) for _, path in self._groups)

    def oom_kills(self) -> int:
        """How many processes the kernel has killed in here because memory ran out."""
        total = 0
        for _, path in self._groups:
            for name in ("memory.events", "memory.oom_control"):
                with contextlib.suppress(OSError):
                    words = (line.split() for line in (path / name).read_text().splitlines())
                    total += sum(int(value) for key, value in words if key == "oom_kill")
        return total

    def out_of_memory(self) -> str:
        """What to tell the user if that has happened, with the limit; else nothing."""
        killed = self.oom_kills()
        if not killed:
            return ""
        what = "a process" if killed == 1 else f"{killed} processes"
        limit = self.limits.memory
        return f"memory ran out: the kernel killed {what} at the limit of {limit} bytes (--memory)"

    def close(self) -> None:
        """Remove the groups. What the kernel still counts as occupied is left for the next `sweep`."""
        for _, path in self._groups:
            for _ in range(20):
                try:
                    path.rmdir()
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.01)  # the last process' exit has been seen before it was accounted for
                else:
                    break
            with contextlib.suppress(OSError):
                path.parent.rmdir()  # other builds may have groups in there
        self._groups = ()

    def __enter__(self) -> Cgroup:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def create(limits: Limits, *, root: Path = ROOT, proc: Path = Path("/proc")) -> Cgroup:
    """Make groups with ``limits``; none at all for no limit.

    Raises SandboxError where this machine, or this user, can't limit something; UsageError for nonsense.
    """
    if limits == NO_LIMITS:
        return Cgroup(limits, ())
    trees = hierarchies(root, proc)
    name = new_name(proc)
    groups: dict[Path, int] = {}
    made = Cgroup(limits, ())
    try:
        for version in (1, 2):
            for controller, file, value in limits.settings(version):
                tree = _tree_of(controller, trees)
                if tree.version != version:
                    continue
                path = tree.directory / PARENT / name
                if path not in groups:
                    sweep(path.parent, proc)
                    _make(tree, path, controller)
                    groups[path] = version
                    made = Cgroup(limits, tuple((v, p) for p, v in groups.items()))
                elif version == 2:
                    _enable(tree, path, controller)
                _write(path / file, value, optional=file in OPTIONAL_FILES and limits.memory_swap == 0)
    except BaseException:
        made.close()
        raise
    return made


def new_name(proc: Path = Path("/proc")) -> str:
    """A name for a group in `PARENT` that tells `sweep` whose it is."""
    return f"{os.getpid()}.{_started(proc, os.getpid())}.{os.urandom(4).hex()}"


def hierarchies(root: Path = ROOT, proc: Path = Path("/proc")) -> tuple[Hierarchy, ...]:
    """The trees that are mounted at and below ``root``."""
    own = {}
    for line in _text(proc / "self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        own[controllers] = path
    found = []
    for line in _text(proc / "self/mountinfo").splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.partition(" ")
        top, point = fields.split()[3:5]
        if not Path(point).is_relative_to(root) or kind not in ("cgroup", "cgroup2"):
            continue
        if kind == "cgroup2":
            directory = Path(point) / _below(own.get("", "/"), top)
            names = _text(directory / "cgroup.controllers") or _text(Path(point) / "cgroup.controllers")
            found.append(Hierarchy(2, directory, frozenset(names.split())))
            continue
        names_of = next(
            (c for c in own if c and set(c.split(",")) <= set(options.split()[-1].split(","))), ""
        )
        directory = Path(point) / _below(own.get(names_of, "/"), top)
        found.append(Hierarchy(1, directory, frozenset(names_of.split(","))))
    return tuple(found)


def sweep(parent: Path, proc: Path = Path("/proc")) -> None:
    """Remove groups in ``parent`` whose maker is gone: killed, it could not do it itself."""
    with contextlib.suppress(OSError):
        for path in list(parent.iterdir()):
            pid, _, rest = path.name.partition(".")
            if path.is_dir() and pid.isdigit() and _started(proc, int(pid)) != rest.partition(".")[0]:
                with contextlib.suppress(OSError):
                    path.rmdir()


def _tree_of(controller: str, trees: tuple[Hierarchy, ...]) -> Hierarchy:
    for tree in trees:
        if controller in tree.controllers:
            return tree
    raise SandboxError(
        f"this machine can't limit {controller}: no control group hierarchy has the {controller} controller",
        hint="on cgroup v2 it has to be delegated: systemd-run --user --scope -p Delegate=yes layersmith …",
    )


def _make(tree: Hierarchy, path: Path, controller: str) -> None:
    try:
        for directory in (path.parent, path):
            directory.mkdir(
                parents=True, exist_ok=True
            )  # parents: another build's end may just have removed them
            if tree.version == 1 and controller == "cpuset":
                _inherit_cpuset(directory)
    except OSError as error:
        raise _refused(f"create the control group {path}", error) from error
    if tree.version == 2:
        _enable(tree, path, controller)


def _enable(tree: Hierarchy, path: Path, controller: str) -> None:
    """Hand ``controller`` down from our own group to ``path``. A group that does so may hold no process itself, unless
    it is the root, so those of ours move into a group of their own first."""
    if controller in _text(path / "cgroup.controllers").split():
        return
    try:
        for directory in (tree.directory, path.parent):
            try:
                (directory / "cgroup.subtree_control").write_text(f"+{controller}")
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                _vacate(directory)
                (directory / "cgroup.subtree_control").write_text(f"+{controller}")
    except OSError as error:
        raise _refused(f"delegate the {controller} controller", error) from error


def _vacate(directory: Path) -> None:
    aside = directory / f"{PARENT}-main"
    aside.mkdir(exist_ok=True)
    for pid in _text(directory / "cgroup.procs").split():
        (aside / "cgroup.procs").write_text(pid)


def _inherit_cpuset(directory: Path) -> None:
    """A new v1 cpuset is empty, and nothing may join it like that."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not _text(directory / name).strip():
            (directory / name).write_text(_text(directory.parent / name))


def _write(path: Path, value: str, *, optional: bool) -> None:
    if optional and not path.exists():
        return
    try:
        path.write_text(value)
    except OSError as error:
        raise _refused(f"set {path.name} to {value}", error) from error


def _refused(doing: str, error: OSError) -> SandboxError:
    hint = ""
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        hint = (
            "limits need root or a delegated group: systemd-run --user --scope -p Delegate=yes layersmith …"
        )
    elif error.errno == errno.EINVAL:
        hint = "the value is out of range for this machine"
    elif error.errno == errno.ENOENT:
        hint = "the kernel has no such control; swap is counted only with swapaccount=1"
    return SandboxError(
        f"{doing}: {error.strerror} ({errno.errorcode.get(error.errno or 0, '?')})", hint=hint
    )


def _below(path: str, top: str) -> str:
    """``path`` of a group relative to a mount of its tree whose root is ``top``."""
    if path == top or top == "/":
        return path.removeprefix(top).strip("/") if path != top else "."
    return path[len(top) :].strip("/") if path.startswith(f"{top}/") else "."


def _started(proc: Path, pid: int) -> str:
    """When process ``pid`` was started, in clock ticks: with it a pid is unique. Empty if there is none."""
    return (_text(proc / str(pid) / "stat").rpartition(")")[2].split() or [""] * 20)[19]


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
