"""EXECUTE: contexts that are not a local directory. In: stdin, a git or tarball URL. Out: a directory to build from."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from layersmith.context.giturl import is_git_url, parse_git_url
from layersmith.errors import CopyError, TransportError, UsageError
from layersmith.execute.git import PROTOCOLS, checkout
from layersmith.execute.tree import Tree

BLOCK = 1 << 20
BUILDFILE = "Dockerfile"
"""What a lone Buildfile is called in its otherwise empty context."""


def is_remote(text: str) -> bool:
    """Whether ``text`` names a git repository or an http(s) URL rather than a local directory."""
    return is_git_url(text) or text.startswith(("http://", "https://"))


def directory_from_stream(stream: BinaryIO, into: Path) -> Path:
    """``build -``: the files of an archive (any compression), else the text is a Buildfile, ``Dockerfile`` in there.

    ``into`` is a new directory; what is given back is it.

    Raises:
        UsageError: nothing came.
        CopyError, HostileInputError: a damaged archive, or one beyond the limits.
    """
    into.mkdir(parents=True)
    holder = into.with_name(into.name + ".download")
    with holder.open("wb") as file:
        shutil.copyfileobj(stream, file, BLOCK)
    try:
        return _expand(holder, into, "stdin")
    finally:
        holder.unlink()


def directory_from_url(
    url: str,
    into: Path,
    *,
    fetch: Callable[..., Any],
    secrets: Callable[[str], bytes | None] = lambda _: None,
    protocols: str = PROTOCOLS,
) -> Path:
    """A git repository (``….git#ref:subdir``), or an http(s) URL of an archive or a Buildfile; see `is_remote`.

    ``into`` is a new directory; what is given back is it, or the repository's ``subdir`` in it.

    Raises:
        CopyError: the clone failed, or there is no such ``subdir``.
        TransportError, NotFoundError: the download failed.
    """
    if not is_git_url(url):
        into.mkdir(parents=True)
        got = fetch(url, into.parent)
        try:
            return _expand(got.path, into, url)
        finally:
            got.path.unlink()
    wanted = parse_git_url(url)
    checkout(wanted, into, keep_git_dir=wanted.keep_git_dir is True, secrets=secrets, protocols=protocols)
    with Tree(into, url).open() as tree:
        found = tree.find(wanted.subdir)
        if found is None or not found.is_dir:
            raise tree.missing(wanted.subdir)
        return into / found.path


def _expand(file: Path, into: Path, shown: str) -> Path:
    """Unpack ``file`` into ``into`` if it is an archive, else make it the Buildfile there."""
    from layersmith.execute.extract import extract_archive

    if file.stat().st_size == 0:
        raise UsageError(f"{shown} is empty", hint="send an archive of the context, or a Buildfile")
    try:
        if extract_archive(file, into):
            return into
    except TransportError:
        raise
    except OSError as error:
        raise CopyError(f"can't unpack {shown}: {error.strerror}") from error
    os.link(file, into / BUILDFILE)
    return into
