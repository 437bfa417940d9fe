"""EXECUTE: ADD of URLs and git repositories. In: a CopyOp. Out: `Fetched`: what each is, and how to get it.

What a source is (a digest, a commit) is all that the cache key needs, and often it can be learnt without the content:
from ``--checksum``, from a server that says "not modified", from the refs of a repository. So the content is only
fetched when a step that missed the cache asks for it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from layersmith.context.giturl import parse_git_url
from layersmith.dataclass import dataclass
from layersmith.errors import CopyError
from layersmith.execute.git import PROTOCOLS, checkout, resolve
from layersmith.execute.selection import Fetched, Place, Remote
from layersmith.execute.tree import Tree
from layersmith.ops import CopyOp, GitSource, HttpSource

UNNAMED = "__unnamed__"
"""What BuildKit calls a download whose URL has no file name."""

Secrets = Callable[[str], bytes | None]


def fetch_remote(
    op: CopyOp,
    *,
    fetch: Callable[..., Any],
    scratch: Path,
    memory: Path | None = None,
    secrets: Secrets = lambda _: None,
    protocols: str = PROTOCOLS,
    warn: Callable[[str], None] = lambda _: None,
) -> Remote:
    """Learn what the op's URLs and git repositories are; ``{}`` if it has none. Content comes later, into ``scratch``.

    ``fetch`` is `transport.fetch.fetch`. ``memory`` is a directory to remember downloads' validators in. ``secrets``
    gives a build secret by its id: HTTP_AUTH_TOKEN_<host>, HTTP_AUTH_HEADER_<host>, GIT_AUTH_TOKEN and
    GIT_AUTH_HEADER (both with ``.<host>`` or without). ``protocols`` are those that git may use.

    Raises:
        CopyError: git failed, or a git ``--checksum`` does not match.
        TransportError, NotFoundError: a download failed, or its ``--checksum`` does not match.
    """
    remote: dict[HttpSource | GitSource, Fetched] = {}
    for index, source in enumerate(op.sources):
        directory = scratch / str(index)
        if isinstance(source, HttpSource) and source not in remote:
            remote[source] = _Download(source, directory, fetch, secrets, memory).fetched()
        elif isinstance(source, GitSource) and source not in remote:
            remote[source] = _clone(source, directory, secrets, protocols, warn)
    return remote


# URLs


@dataclass(frozen=True, slots=True)
class _Known:
    """What was learnt of a URL earlier."""

    etag: str
    last_modified: str
    digest: str
    mtime: int


@dataclass(frozen=True, slots=True)
class _Download:
    source: HttpSource
    directory: Path
    fetch: Callable[..., Any]
    secrets: Secrets
    memory: Path | None

    def fetched(self) -> Fetched:
        name = url_name(self.source.url)
        if self.source.checksum is not None:
            # the content is what its author says: nothing need be asked
            return Fetched(f"url {name} {self.source.checksum}", _once(lambda: self.place(self.get())))
        known = self.recall()
        got = self.get(known=known)
        if got is None:
            assert known is not None
            return Fetched(
                f"url {name} {known.digest} {known.mtime}",
                _once(lambda: self.place(self.get(checksum=known.digest))),
            )
        self.remember(got)
        place = self.place(got)
        # unlike other files its time is in the key: it says which version of the document this is
        return Fetched(f"url {name} {got.digest} {got.mtime}", lambda: place)

    def get(self, *, known: Any = None, checksum: str | None = None) -> Any:
        self.directory.mkdir(parents=True, exist_ok=True)
        return self.fetch(
            self.source.url,
            self.directory,
            known=known,
            checksum=checksum or self.source.checksum,
            headers=http_headers(self.source.url, self.secrets),
        )

    def place(self, got: Any) -> Place:
        """Give the downloaded file the looks that it has in the image."""
        name = url_name(self.source.url)
        path = self.directory / "content" / name
        path.parent.mkdir()
        got.path.rename(path)
        path.chmod(0o600)
        os.utime(path, (got.mtime, got.mtime))
        return Place(Tree(path.parent, self.source.url, keep_owners=False), name)

    def recall(self) -> _Known | None:
        if self.memory is None:
            return None
        try:
            fields = json.loads(self._record(self.memory).read_bytes())
            return _Known(**fields)
        except (OSError, ValueError, TypeError):
            return None

    def remember(self, got: Any) -> None:
        validators = got.validators
        if self.memory is None or not (validators.etag or validators.last_modified):
            return
        self.memory.mkdir(parents=True, exist_ok=True)
        fields = {
            "etag": validators.etag,
            "last_modified": validators.last_modified,
            "digest": got.digest,
            "mtime": got.mtime,
        }
        record = self._record(self.memory)
        # a lost or torn record only costs a download, so it is not synced
        unfinished = record.with_name(f"{record.name}.{os.getpid()}.{id(self)}")
        unfinished.write_text(json.dumps(fields))
        unfinished.replace(record)

    def _record(self, memory: Path) -> Path:
        return memory / (
            hashlib.sha256(self.source.url.encode("utf-8", "surrogateescape")).hexdigest() + ".json"
        )


def url_name(url: str) -> str:
    """The file name that a URL's path ends with."""
    name = unquote(urlsplit(url).path).rstrip("/").rpartition("/")[2]
    return UNNAMED if name in ("", ".", "..") or "\0" in name else name


def http_headers(url: str, secrets: Secrets) -> dict[str, str]:
    """What a build secret says for the URL's host: HTTP_AUTH_HEADER_<host> or HTTP_AUTH_TOKEN_<host>."""
    host = urlsplit(url).hostname or ""
    header = secrets(f"HTTP_AUTH_HEADER_{host}")
    if header is not None:
        return {"Authorization": header.decode().strip()}
    token = secrets(f"HTTP_AUTH_TOKEN_{host}")
    return {"Authorization": f"Bearer {token.decode().strip()}"} if token is not None else {}


# Git


def _clone(
    source: GitSource, directory: Path, secrets: Secrets, protocols: str, warn: Callable[[str], None]
) -> Fetched:
    url = parse_git_url(source.url)
    if source.checksum is not None and url.checksum not in (None, source.checksum):
        raise CopyError(f"{source.url}: --checksum={source.checksum} is not the one in the URL")
    if url.remote.startswith(("git://", "http://")):
        warn(f"{url.remote} is fetched without encryption")
    wanted = url if source.checksum is None else url.with_checksum(source.checksum)
    keep = url.keep_git_dir if url.keep_git_dir is not None else source.keep_git_dir

    def clone(commit: str | None) -> str:
        return checkout(
            wanted, directory, commit=commit, keep_git_dir=keep, secrets=secrets, protocols=protocols
        )

    place = Place(Tree(directory, url.remote, keep_owners=False), url.subdir)
    commit = resolve(wanted, directory.parent, secrets=secrets, protocols=protocols)
    cloned = commit is None
    known = commit if commit is not None else clone(None)

    def get() -> Place:
        if not cloned:
            clone(known)
        return place

    looks = f"keep={keep} ref={url.ref if keep else ''} submodules={url.submodules} {url.commit_time}"
    return Fetched(f"git {known} {url.subdir} {looks}", _once(get))


def _once(get: Callable[[], Place]) -> Callable[[], Place]:
    """``get``, called at most once however often its result is asked for."""
    result: list[Place] = []

    def again() -> Place:
        if not result:
            result.append(get())
        return result[0]

    return again
