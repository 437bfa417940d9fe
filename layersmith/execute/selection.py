"""EXECUTE: the sources of a COPY. In: a CopyOp and its trees. Out: `Selected`, after wildcards and symlinks.

What is selected depends on the sources only, never on the destination: both the cache key and the items start here.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from layersmith.context.patterns import PatternError, Patterns, clean, compile_glob, has_wildcard, unescape
from layersmith.dataclass import dataclass
from layersmith.errors import CopyError
from layersmith.execute.scope import Scope, Verdict, scope_at
from layersmith.execute.tree import Found, OpenTree, Tree, checked_name
from layersmith.ops import CopyOp, GitSource, HttpSource, InlineSource, Input, PathSource


@dataclass(frozen=True, slots=True)
class Place:
    """Where a remote source lies on disk: ``path`` in ``tree`` is what to copy."""

    tree: Tree
    path: str


@dataclass(frozen=True, slots=True)
class Fetched:
    """A remote source: ``identity`` is its content's name in the cache key, ``get`` brings it to disk."""

    identity: str
    get: Callable[[], Place]


Remote = Mapping[HttpSource | GitSource, Fetched]


@dataclass(frozen=True, slots=True)
class Selected:
    """One file or directory to copy; of a directory, its content."""

    name: str
    """What a file is called inside a directory destination."""
    tree: OpenTree
    found: Found
    scope: Scope | None = None
    """The filter at the top of a directory."""
    keep_existing: bool = False
    """``--parents``: directories that the destination has keep their owner and times."""
    shown: str = ""
    """Its path as a person knows it: where the cache key's inputs are listed."""
    unpack: bool = False
    """ADD: an archive is unpacked."""


@dataclass(frozen=True, slots=True)
class Inline:
    """A heredoc."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Identified:
    """A remote source that is not on disk yet."""

    shown: str
    identity: str


@contextmanager
def select(
    op: CopyOp,
    trees: Mapping[Input, Tree],
    remote: Remote,
    *,
    warn: Callable[[str], None] = lambda _: None,
) -> Iterator[tuple[Selected | Inline, ...]]:
    """The op's sources in order, remote ones brought to disk. ``warn`` gets a line for each wildcard without a match.

    Raises:
        CopyError: a literal source is missing, or a pattern is malformed.
    """
    with _opener() as open_tree:
        chosen: list[Selected | Inline] = []
        for source in op.sources:
            if isinstance(source, HttpSource | GitSource):
                chosen.append(_select_fetched(op, source, remote[source].get(), open_tree))
                continue
            local = _select_local(op, source, trees, open_tree)
            if not local and isinstance(source, PathSource):
                warn(f'"{source.path}" matches nothing in {trees[source.input].label}')
            chosen += local
        yield tuple(chosen)


@contextmanager
def identify(
    op: CopyOp, trees: Mapping[Input, Tree], remote: Remote
) -> Iterator[tuple[Selected | Inline | Identified, ...]]:
    """The op's sources as the cache key sees them: nothing is fetched."""
    with _opener() as open_tree:
        chosen: list[Selected | Inline | Identified] = []
        for source in op.sources:
            if isinstance(source, HttpSource | GitSource):
                chosen.append(Identified(source.url, remote[source].identity))
            else:
                chosen += _select_local(op, source, trees, open_tree)
        yield tuple(chosen)


@contextmanager
def _opener() -> Iterator[Callable[[Tree], OpenTree]]:
    """Opens each tree once, and closes them all."""
    with ExitStack() as stack:
        opened: dict[int, OpenTree] = {}

        def open_tree(tree: Tree) -> OpenTree:
            if id(tree) not in opened:
                opened[id(tree)] = stack.enter_context(tree.open())
            return opened[id(tree)]

        try:
            yield open_tree
        except OSError as error:
            raise CopyError(f"can't read a source: {error.strerror} ({error.filename})") from error


def _select_local(
    op: CopyOp,
    source: PathSource | InlineSource,
    trees: Mapping[Input, Tree],
    open_tree: Callable[[Tree], OpenTree],
) -> list[Selected | Inline]:
    if isinstance(source, InlineSource):
        if "/" in checked_name(source.name) or source.name in ("", ".", ".."):
            raise CopyError(
                f'a heredoc can\'t be copied to a file called "{source.name}"',
                hint="choose a delimiter without a slash",
            )
        return [Inline(source.name, source.data)]
    return list(_select_path(op, source.path, open_tree(trees[source.input])))


def _select_fetched(
    op: CopyOp, source: HttpSource | GitSource, place: Place, open_tree: Callable[[Tree], OpenTree]
) -> Selected:
    tree = open_tree(place.tree)
    found = tree.find(place.path)
    if found is None:
        raise tree.missing(place.path)
    return Selected(
        name=place.path.rpartition("/")[2],
        tree=tree,
        found=found,
        scope=scope_at(found.path, None, None, _patterns(op.excludes, "--exclude")) if found.is_dir else None,
        shown=source.url,
        unpack=isinstance(source, HttpSource) and op.unpack is True,
    )


def _select_path(op: CopyOp, path: str, tree: OpenTree) -> Iterator[Selected]:
    include = None
    literal = path
    if op.parents:
        base, pivot, pattern = path.partition("/./")
        if not pivot:
            base, pattern = "/", path
        pattern = clean("/" + pattern).lstrip("/")
        if not has_wildcard(base) and not has_wildcard(pattern):
            literal = clean(f"/{unescape(base)}/{unescape(pattern)}")
            if tree.find(literal) is None:
                raise tree.missing(literal.lstrip("/"))
        # the root itself as pattern means all of it
        include = _patterns((pattern,), "--parents") if pattern else None
        path = base
    exclude = _patterns(op.excludes, "--exclude")
    ignore = tree.tree.ignore.patterns if tree.tree.ignore is not None else None
    unpack = op.unpack if op.unpack is not None else op.add
    for name, found in _expand(path, tree):
        yield Selected(
            name=name,
            tree=tree,
            found=found,
            scope=scope_at(found.path, ignore, include, exclude) if found.is_dir else None,
            keep_existing=include is not None,
            shown=found.path or ".",
            unpack=unpack,
        )


def _expand(path: str, tree: OpenTree) -> Iterator[tuple[str, Found]]:
    """(name, what it leads to) for each match of ``path``, in byte order."""
    parts = [part for part in clean("/" + path).split("/") if part]
    first = next((i for i, part in enumerate(parts) if has_wildcard(part)), len(parts))
    fixed = "/".join(parts[:first])
    found = tree.find(fixed)
    if found is None and "\\" in fixed:
        fixed = unescape(fixed)
        found = tree.find(fixed)
    if first == len(parts):
        if found is None:
            raise tree.missing(path.lstrip("/") or path)
        yield fixed.rpartition("/")[2], found
        return
    if found is None or not found.is_dir:
        return
    try:
        globs = [compile_glob(part) for part in parts[first:]]
    except PatternError as error:
        raise CopyError(f'the source "{path}" is malformed: {error}') from None
    ignore = tree.tree.ignore.patterns if tree.tree.ignore is not None else None
    for match in _matches(tree, found.path, scope_at(found.path, ignore), globs):
        target = tree.find(match)
        if target is None:
            raise tree.missing(match)
        yield match.rpartition("/")[2], target


def _matches(
    tree: OpenTree, parent: str, scope: Scope | None, globs: Sequence[re.Pattern[str]]
) -> Iterator[str]:
    """Paths below the real directory ``parent`` whose parts match ``globs``; symlinks are not descended into."""
    with tree.directory(parent) as fd, os.scandir(fd) as entries:
        names = sorted((os.fsencode(e.name), e.name, e.is_dir(follow_symlinks=False)) for e in entries)
    for _, name, is_dir in names:
        if globs[0].fullmatch(name) is None:
            continue
        verdict, inner = scope.judge(name, is_dir=is_dir) if scope is not None else (Verdict.KEEP, None)
        if verdict is Verdict.SKIP:
            continue
        path = f"{parent}/{name}" if parent else name
        if len(globs) > 1:
            if is_dir:
                yield from _matches(tree, path, inner, globs[1:])
        elif verdict is Verdict.KEEP or tree.find(path) is not None:
            yield path


def _patterns(texts: tuple[str, ...], flag: str) -> Patterns | None:
    """Patterns of a flag; None if there are none."""
    cleaned = [clean(text.strip()) for text in texts if text.strip()]
    try:
        return Patterns(cleaned) if cleaned else None
    except PatternError as error:
        raise CopyError(f"{flag}: {error.args[0]}") from None


def is_regular(found: Found) -> bool:
    """Whether it is a regular file."""
    return stat.S_ISREG(found.stat.st_mode)
