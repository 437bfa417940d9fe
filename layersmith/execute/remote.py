"""EXECUTE: ADD of URLs and git repositories. In: a CopyOp. Out: `Fetched` trees on disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from layersmith.errors import CopyError
from layersmith.execute.git import PROTOCOLS, checkout, parse_git_url
from layersmith.execute.selection import Fetched, Remote
from layersmith.execute.tree import Tree
from layersmith.ops import CopyOp, GitSource, HttpSource

UNNAMED = "__unnamed__"
"""What BuildKit calls a download whose URL ends with a slash."""


def fetch_remote(
    op: CopyOp,
    *,
    fetch: Callable[..., Any],
    scratch: Path,
    secrets: Callable[[str], bytes | None] = lambda _: None,
    protocols: str = PROTOCOLS,
    warn: Callable[[str], None] = lambda _: None,
) -> Remote:
    """Download the op's URLs and clone its git repositories into ``scratch``; ``{}`` if it has none.

    ``fetch`` is `transport.fetch.fetch`. ``secrets`` gives a build secret by its id: HTTP_AUTH_TOKEN_<host>,
    HTTP_AUTH_HEADER_<host>, GIT_AUTH_TOKEN and GIT_AUTH_HEADER (both with ``.<host>`` or without). ``protocols`` are
    those that git may use.

    Raises:
        CopyError: a clone failed, or a git ``--checksum`` does not match.
        TransportError, NotFoundError: a download failed, or its ``--checksum`` does not match.
    """
    remote: dict[HttpSource | GitSource, Fetched] = {}
    for index, source in enumerate(op.sources):
        directory = scratch / str(index)
        if isinstance(source, HttpSource) and source not in remote:
            directory.mkdir(parents=True)
            remote[source] = _download(source, directory, fetch, secrets)
        elif isinstance(source, GitSource) and source not in remote:
            remote[source] = _clone(source, directory, secrets, protocols, warn)
    return remote


def _download(
    source: HttpSource, directory: Path, fetch: Callable[..., Any], secrets: Callable[[str], bytes | None]
) -> Fetched:
    got = fetch(source.url, directory, checksum=source.checksum, headers=_headers(source.url, secrets))
    name = url_name(source.url)
    path = directory / name
    os.rename(got.path, path)
    path.chmod(0o600)
    os.utime(path, (got.mtime, got.mtime))
    # unlike other files its time is in the key: it says which version of the document this is
    return Fetched(
        Tree(directory, source.url, keep_owners=False), name, f"url {name} {got.digest} {got.mtime}"
    )


def url_name(url: str) -> str:
    """The file name that a URL's path ends with."""
    name = unquote(urlsplit(url).path).rstrip("/").rpartition("/")[2]
    return UNNAMED if name in ("", ".", "..") or "\0" in name else name


def _headers(url: str, secrets: Callable[[str], bytes | None]) -> dict[str, str]:
    host = urlsplit(url).hostname or ""
    header = secrets(f"HTTP_AUTH_HEADER_{host}")
    if header is not None:
        return {"Authorization": header.decode().strip()}
    token = secrets(f"HTTP_AUTH_TOKEN_{host}")
    return {"Authorization": f"Bearer {token.decode().strip()}"} if token is not None else {}


def _clone(
    source: GitSource,
    directory: Path,
    secrets: Callable[[str], bytes | None],
    protocols: str,
    warn: Callable[[str], None],
) -> Fetched:
    url = parse_git_url(source.url)
    if source.checksum is not None and url.checksum not in (None, source.checksum):
        raise CopyError(f"{source.url}: --checksum={source.checksum} is not the one in the URL")
    if url.remote.startswith(("git://", "http://")):
        warn(f"{url.remote} is fetched without encryption")
    wanted = url if source.checksum is None else url.with_checksum(source.checksum)
    keep = url.keep_git_dir if url.keep_git_dir is not None else source.keep_git_dir
    commit = checkout(wanted, directory, keep_git_dir=keep, secrets=secrets, protocols=protocols)
    identity = (
        f"git {commit} {url.subdir} keep={keep} ref={url.ref if keep else ''} submodules={url.submodules}"
    )
    return Fetched(Tree(directory, url.remote, keep_owners=False), url.subdir, identity)
