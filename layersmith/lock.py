"""LOCK: what the names of a Buildfile meant when it was locked. In: plans, and what resolves names. Out: a `Lock`.

``Buildfile.lock`` (the Buildfile's own name, and ``.lock``) lies beside the Buildfile and is JSON:

    {"version": 1,
     "images": {"debian:bookworm": "sha256:…"},                 FROM and --from: the index, where the registry has one
     "urls": {"https://example.com/a.tar": "sha256:…"},         ADD of a URL: its content
     "git": {"https://example.com/a.git#main": "<commit>"}}     ADD of a repository: its commit

A build takes what is locked from there; `pinned` and `LockedBases` see to it. The digest of an index stands for the
images of all its platforms. Names that hold a digest, or an ADD with ``--checksum``, say themselves what they mean.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from layersmith import ops
from layersmith.buildfile.instructions import Buildfile
from layersmith.buildfile.parser import stages
from layersmith.dataclass import dataclass, replace
from layersmith.errors import NotFoundError, PlanError, TransportError, UsageError
from layersmith.image import Image
from layersmith.oci.digest import parse_digest
from layersmith.oci.document import parse_object
from layersmith.oci.platform import Platform
from layersmith.oci.reference import parse_reference
from layersmith.plan import Bases, Plan, PlanOptions, plan_platforms

VERSION = 1
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_REF_KEYS = ("ref", "tag", "branch", "checksum", "commit")

Names = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Lock:
    """Names, and the digests or commits that they stand for."""

    images: Names
    urls: Names
    git: Names

    def to_json(self) -> bytes:
        """As in the file: sorted, a name on each line, so that changes show well in a diff."""
        value = {
            "version": VERSION,
            "images": dict(self.images),
            "urls": dict(self.urls),
            "git": dict(self.git),
        }
        return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes, name: str) -> Lock:
        """Raises UsageError: ``data``, called ``name``, is no lock file, or of a newer version."""
        try:
            fields = parse_object(data, name)
            if fields.integer("version") != VERSION:
                raise UsageError(
                    f"{name}: version {fields.integer('version')} is unknown",
                    hint="write it anew: `layersmith lock`",
                )
            found = cls(dict(fields.pairs("images")), dict(fields.pairs("urls")), dict(fields.pairs("git")))
            for digest in (*found.images.values(), *found.urls.values()):
                parse_digest(digest)
        except TransportError as error:
            raise UsageError(error.message, hint="write it anew: `layersmith lock`") from None
        wrong = [commit for commit in found.git.values() if not _COMMIT.fullmatch(commit)]
        if wrong:
            raise UsageError(f"{name}: {wrong[0]!r} is not a commit", hint="write it anew: `layersmith lock`")
        return found

    @classmethod
    def read(cls, path: Path) -> Lock | None:
        """The lock file at ``path``; None if there is none. Raises UsageError as `from_json`."""
        try:
            return cls.from_json(path.read_bytes(), path.name)
        except FileNotFoundError:
            return None

    def differences(self, other: Lock) -> list[str]:
        """What ``other`` says otherwise, a line for each name."""
        lines = []
        for kind in ("images", "urls", "git"):
            before, after = getattr(self, kind), getattr(other, kind)
            for name in sorted({*before, *after}):
                if before.get(name) != after.get(name):
                    lines.append(
                        f"{name}: {before.get(name, 'not locked')} -> {after.get(name, 'no longer used')}"
                    )
        return lines


def lock_path(buildfile: Path) -> Path:
    """Where the lock of a Buildfile lies: beside it."""
    return buildfile.with_name(buildfile.name + ".lock")


# Using a lock


@dataclass(frozen=True, slots=True)
class LockedBases:
    """`plan.Bases` that give what ``lock`` says. ``strict``: nothing else than that."""

    bases: Bases
    lock: Lock
    strict: bool = False

    def image(self, name: str, platform: Platform) -> Image:
        """Raises PlanError where ``strict`` and not locked; else as the ``bases``' own."""
        wanted = lockable(name)
        if wanted is None:
            return self.bases.image(name, platform)
        digest = self.lock.images.get(wanted)
        if digest is None:
            if self.strict:
                raise _not_locked(f"image {wanted}")
            return self.bases.image(name, platform)
        try:
            return self.bases.image(f"{name}@{digest}", platform)
        except (NotFoundError, TransportError) as error:
            error.hint = (
                f"the lock file wants {wanted} to be {digest}; `layersmith lock --update` takes today's"
            )
            raise

    def context(self, name: str, platform: Platform) -> Image | ops.ContextInput | None:
        """As the ``bases``' own: what the command line gives is not locked."""
        return self.bases.context(name, platform)


def pinned(plans: Iterable[Plan], lock: Lock, *, strict: bool = False) -> tuple[Plan, ...]:
    """``plans`` with every ADD of a URL or repository held to what ``lock`` says. Raises PlanError where ``strict`` and
    one is not locked."""
    return tuple(
        replace(
            each,
            steps=tuple(replace(step, op=_pinned(step.op, lock, strict=strict)) for step in each.steps),
        )
        for each in plans
    )


def _pinned(op: ops.Op, lock: Lock, *, strict: bool) -> ops.Op:
    if not isinstance(op, ops.CopyOp):
        return op
    return replace(op, sources=tuple(_pinned_source(source, lock, strict=strict) for source in op.sources))


def _pinned_source(source: ops.CopySource, lock: Lock, *, strict: bool) -> ops.CopySource:
    match source:
        case ops.HttpSource(checksum=None):
            digest = lock.urls.get(source.url)
            if digest is not None:
                return replace(source, checksum=digest)
        case ops.GitSource(checksum=None) if not _says_commit(source.url):
            commit = lock.git.get(source.url)
            if commit is not None:
                return replace(source, url=at_commit(source.url, commit))
        case _:
            return source
    if strict:
        raise _not_locked(source.url)
    return source


def _not_locked(what: str) -> PlanError:
    return PlanError(f"{what} is not in the lock file", hint="`layersmith lock` adds what is missing")


def lockable(name: str) -> str | None:
    """The name under which an image is locked; None if it holds a digest itself, or is none."""
    try:
        reference = parse_reference(name)
    except UsageError:
        return None
    return None if reference.digest is not None else reference.familiar()


def at_commit(url: str, commit: str) -> str:
    """A git URL as it is, but for the ref: it is ``commit``."""
    remote, _, fragment = url.partition("#")
    _, colon, subdir = fragment.partition(":")
    if "?" not in remote or "://" not in remote:
        return f"{remote}#{commit}{colon}{subdir}"
    parts = urlsplit(remote)
    query = [
        (key, value) for key, value in parse_qsl(parts.query, keep_blank_values=True) if key not in _REF_KEYS
    ]
    if fragment:
        return f"{urlunsplit(parts._replace(query=urlencode(query)))}#{commit}{colon}{subdir}"
    return urlunsplit(parts._replace(query=urlencode([*query, ("ref", commit)])))


def _says_commit(url: str) -> bool:
    from layersmith.context.giturl import parse_git_url

    parsed = parse_git_url(url)
    return parsed.checksum is not None or _COMMIT.fullmatch(parsed.ref) is not None


# Making one


@dataclass(frozen=True, slots=True)
class Resolvers:
    """What finds out what a name means now: an image's digest, a URL's content's, a repository's commit."""

    image: Callable[[str], str]
    url: Callable[[str], str]
    git: Callable[[str], str]


def make_lock(
    buildfile: Buildfile,
    options: PlanOptions,
    platforms: tuple[Platform, ...],
    bases: Bases,
    resolvers: Resolvers,
    known: Lock | None = None,
) -> Lock:
    """The lock of all stages of ``buildfile``, also of those that the target does not need.

    What ``known`` has already keeps its meaning; what nothing names any more is left out.

    Raises what planning and the resolvers raise.
    """
    noting = _NotingBases(bases, known or Lock({}, {}, {}), resolvers.image)
    _, listed = stages(buildfile)
    steps = [
        step
        for number in range(len(listed))
        for plan in plan_platforms(buildfile, replace(options, target=str(number)), platforms, noting)
        for step in plan.steps
    ]
    urls: dict[str, str] = {}
    git: dict[str, str] = {}
    for source in _sources(step.op for step in steps):
        if isinstance(source, ops.HttpSource) and source.url not in urls:
            urls[source.url] = noting.known.urls.get(source.url) or resolvers.url(source.url)
        elif isinstance(source, ops.GitSource) and source.url not in git and not _says_commit(source.url):
            git[source.url] = noting.known.git.get(source.url) or resolvers.git(source.url)
    return Lock(noting.found, urls, git)


def _sources(found: Iterable[ops.Op]) -> Iterator[ops.HttpSource | ops.GitSource]:
    """The sources that a lock can hold."""
    for op in found:
        for source in op.sources if isinstance(op, ops.CopyOp) else ():
            if isinstance(source, ops.HttpSource | ops.GitSource) and source.checksum is None:
                yield source


class _NotingBases:
    """`plan.Bases` that note what images are asked for, and give those that the lock then holds."""

    def __init__(self, bases: Bases, known: Lock, resolve: Callable[[str], str]) -> None:
        self.bases = bases
        self.known = known
        self.found: dict[str, str] = {}
        self._resolve = resolve

    def image(self, name: str, platform: Platform) -> Image:
        wanted = lockable(name)
        if wanted is None:
            return self.bases.image(name, platform)
        if wanted not in self.found:
            self.found[wanted] = self.known.images.get(wanted) or self._resolve(name)
        return LockedBases(self.bases, Lock(self.found, {}, {})).image(name, platform)

    def context(self, name: str, platform: Platform) -> Image | ops.ContextInput | None:
        return self.bases.context(name, platform)
