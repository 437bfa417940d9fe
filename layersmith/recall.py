"""RECALL: a build that was asked before, and all of whose inputs are as they were. In: the question. Out: its image.

A build of which nothing is left to do still parses, plans and makes every key. When one was all cached, `remember`
keeps beside its record what it depended on: the question itself (`key`), which image each base's name stood for, and
the status of all files of the contexts that it may have read. If a later build finds that unchanged, `recall` gives the
same image without loading the language. Whatever can't be told from that (URLs, INCLUDE, RUN --no-cache, a symlink on
the way to a source) is never remembered; then the build is done as always, and finds in its cache what it had found.

As with git's index, a file whose ctime is younger than `statcache.RACY_NS` may change without its status changing:
nothing is remembered of such files.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layersmith.dataclass import asdict, dataclass, replace
from layersmith.errors import LayersmithError
from layersmith.oci.descriptor import Descriptor
from layersmith.oci.digest import digest_of
from layersmith.oci.document import canonical
from layersmith.progress import BuiltLayer, ImageBuilt, Planned, PlannedStep, StepFinished
from layersmith.store.statcache import RACY_NS

if TYPE_CHECKING:
    from layersmith.image import Image
    from layersmith.plan import Plan
    from layersmith.progress import Progress
    from layersmith.store import Build, Store

VERSION = 1
MAX_FILES = 200_000
"""Of a context: beyond, looking at each would cost more than it saves, where only few are copied."""
MAX_REMEMBERED = 200
_MAX_SIZE = 16 << 20
_ANY = "*"
_WILDCARDS = frozenset("*?[\\")

Roots = Mapping[str, tuple[Path, tuple[str, ...]]]
"""By context: its directory, and the paths in it that the build may read, with all below; at ``a/*`` symlinks are
followed."""


def key(question: Mapping[str, Any]) -> str:
    """The name under which the answer to ``question`` (JSON) is kept."""
    return hashlib.sha256(canonical({"version": VERSION, **question})).hexdigest()


@dataclass(frozen=True, slots=True)
class Recalled:
    """The image of an earlier build, its record, and what progress tells of it."""

    descriptor: Descriptor
    build: Build
    steps: tuple[PlannedStep, ...]
    layers: tuple[BuiltLayer, ...]

    def tell(self, progress: Progress, names: tuple[str, ...], seconds: float) -> None:
        """Emit what a build that is all cached emits."""
        progress.emit(Planned(self.steps))
        for step in self.build.steps:
            if step.outcome == "hit":
                progress.emit(StepFinished(step.number, step.name, "cached", 0.0))
        progress.emit(ImageBuilt(self.descriptor.digest, names, self.layers, seconds))

    def record(self, store: Store, names: tuple[str, ...], started: float) -> None:
        """Add a record of this build to the store's."""
        now = time.time()
        steps = tuple(
            replace(step, started=now, finished=now) if step.outcome == "hit" else step
            for step in self.build.steps
        )
        try:
            name, lock = store.builds.begin()
            try:
                done = replace(self.build, id=name, started=started, finished=now, names=names, steps=steps)
                store.builds.write(done)
                store.builds.forget_old()
            finally:
                os.close(lock)
        except (LayersmithError, OSError):
            pass  # as in `solve.recorder`: a record is no result


def recall(store: Store, name: str) -> Recalled | None:
    """The answer kept under ``name``, if all that it depended on is unchanged; None costs little."""
    path = _path(store, name)
    try:
        with path.open("rb") as file:
            kept = json.loads(file.read(_MAX_SIZE))
        if any(_digest_of(store, base) != digest for base, digest in kept["bases"]):
            return None
        roots = {context: (Path(root), tuple(paths)) for context, (root, paths) in kept["roots"].items()}
        if fingerprint(roots) != kept["files"]:
            return None
        store.session.pin(*kept["blobs"])
        if not all(store.blobs.has(blob) for blob in kept["blobs"]):
            return None
        return Recalled(
            Descriptor.from_json(kept["image"]),
            store.builds.read(kept["build"]),
            tuple(PlannedStep(**{**row, "needs": tuple(row["needs"])}) for row in kept["steps"]),
            tuple(BuiltLayer(**row) for row in kept["layers"]),
        )
    except (OSError, LayersmithError, ValueError, KeyError, TypeError, AttributeError):
        return None  # it was forgotten or is damaged: the build itself says what there is to say


def _digest_of(store: Store, name: str) -> str | None:
    found = store.refs.get(name)
    return None if found is None else found.digest


def _path(store: Store, name: str) -> Path:
    return store.root / "recall" / f"{name}.json"


def remember(
    store: Store,
    name: str,
    *,
    text: bytes,
    record: Build,
    descriptor: Descriptor,
    images: Iterable[tuple[Descriptor, Image]],
    plan: Plan,
    contexts: Mapping[str, Path],
    told: tuple[tuple[PlannedStep, ...], tuple[BuiltLayer, ...]],
) -> bool:
    """Keep the build's answer under ``name``, if it was all cached and can be told by what `recall` compares."""
    if any(step.outcome not in ("hit", "base") for step in record.steps) or b"INCLUDE" in text.upper():
        return False
    found = _roots(plan, contexts)
    files = None if found is None else fingerprint(found, before=time.time_ns() - RACY_NS)
    bases = {base: _digest_of(store, base) for base in _bases(plan)}
    if found is None or files is None or None in bases.values():
        return False
    blobs: set[str] = {descriptor.digest}
    for manifest, image in images:
        blobs |= {manifest.digest, digest_of(image.config.to_json())}
        blobs |= {layer.descriptor.digest for layer in image.layers}
    steps, layers = told
    kept = {
        "build": record.id,
        "image": descriptor.to_json(),
        "bases": sorted(bases.items()),
        "roots": {context: (str(root), paths) for context, (root, paths) in found.items()},
        "files": files,
        "blobs": sorted(blobs),
        "steps": [asdict(step) for step in steps],
        "layers": [asdict(layer) for layer in layers],
    }
    path = _path(store, name)
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        temporary = store.session.new_path("recall")
        temporary.write_bytes(canonical(kept))
        temporary.rename(path)
        _forget_old(path.parent)
    except (OSError, LayersmithError):
        return False
    return True


def forget(store: Store) -> None:
    """Forget all answers: what was cached is not any more."""
    for path in _remembered(store.root / "recall"):
        path.unlink(missing_ok=True)


def _forget_old(directory: Path) -> None:
    paths = _remembered(directory)
    if len(paths) > MAX_REMEMBERED:
        for path in sorted(paths, key=lambda path: path.stat().st_mtime)[: -MAX_REMEMBERED // 2]:
            path.unlink(missing_ok=True)


def _remembered(directory: Path) -> list[Path]:
    try:
        return list(directory.glob("*.json"))
    except FileNotFoundError:
        return []


# What a build depends on


def _bases(plan: Plan) -> Iterable[str]:
    from layersmith import ops

    return (step.op.name for step in plan.steps if isinstance(step.op, ops.SourceOp) and step.op.diff_ids)


def _roots(plan: Plan, contexts: Mapping[str, Path]) -> Roots | None:
    """The paths of contexts that the plan reads, or None if it reads what can't be compared."""
    from layersmith import ops

    paths: dict[str, set[str]] = {}
    for step in plan.steps:
        if isinstance(step.op, ops.CopyOp):
            sources = step.op.sources
        elif isinstance(step.op, ops.ExecOp):
            if step.op.no_cache:
                return None
            mounts = (one for one in step.op.mounts if isinstance(one, ops.BindMount | ops.CacheMount))
            sources = tuple(ops.PathSource(one.source, one.input) for one in mounts if one.input is not None)
        else:
            continue
        for source in sources:
            if isinstance(source, ops.HttpSource | ops.GitSource):
                return None
            if isinstance(source, ops.PathSource) and isinstance(source.input, ops.ContextInput):
                paths.setdefault(source.input.name, set()).add(_literal(source.path))
    return {name: (contexts[name].absolute(), tuple(sorted(found))) for name, found in paths.items()}


def _literal(path: str) -> str:
    """``path`` up to its first component with a wildcard, which becomes ``*``: all that is there."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    for number, part in enumerate(parts):
        if part == ".." or not _WILDCARDS.isdisjoint(part):
            return "/".join([*parts[:number], _ANY])
    return "/".join(parts)


class _Unknowable(Exception):
    """The status of the files does not tell whether they are the same."""


def fingerprint(roots: Roots, *, before: int | None = None) -> str | None:
    """A digest over the status of all files at ``roots``; None if it can't tell whether they are the same.

    That is where a symlink leads on, where there are more than `MAX_FILES`, and where a file was changed at or after
    ``before`` (wall clock, ns). An inode's ctime moves with its content, owner, mode, xattrs and, on a rename, name.
    """
    hasher = hashlib.sha256()
    budget = MAX_FILES
    try:
        for name, (root, paths) in sorted(roots.items()):
            for path in paths:
                hasher.update(f"{name}\0{root}\0{path}\0".encode("utf-8", "surrogateescape"))
                at, status = _reached(root, path)
                lines = [f"{status.st_ino} {status.st_mode}"]
                if stat.S_ISDIR(status.st_mode):
                    budget = _walk(at, hasher, budget, before, followed=path.endswith(_ANY))
                else:
                    lines.append(_line("", status, before))
                hasher.update("\0".join(lines).encode())
    except (_Unknowable, OSError):
        return None
    return hasher.hexdigest()


def _reached(root: Path, path: str) -> tuple[str, os.stat_result]:
    """Where ``path`` is, and its status; reached without a symlink."""
    at = str(root)
    status = os.stat(at)
    for part in path.split("/") if path else ():
        if part != _ANY:
            at = f"{at}/{part}"
            status = os.lstat(at)
            if stat.S_ISLNK(status.st_mode):
                raise _Unknowable
    return at, status


def _line(name: str, status: os.stat_result, before: int | None) -> str:
    changed = status.st_ctime_ns
    if before is not None and changed >= before:
        raise _Unknowable
    return f"{name}\0{status.st_ino} {changed} {status.st_size}"


def _walk(top: str, hasher: hashlib._Hash, budget: int, before: int | None, *, followed: bool) -> int:
    directories = [top]
    while directories:
        directory = directories.pop()
        lines = [directory]
        with os.scandir(directory) as entries:
            for entry in entries:
                lines.append(_line(entry.name, entry.stat(follow_symlinks=False), before))
                if entry.is_dir(follow_symlinks=False):
                    directories.append(entry.path)
                elif followed and entry.is_symlink():
                    raise _Unknowable
        budget -= len(lines)
        if budget < 0:
            raise _Unknowable
        hasher.update("\0".join(lines).encode("utf-8", "surrogateescape"))
    return budget
