"""EXECUTE: contexts that are not a local directory. In: stdin, a git or tarball URL. Out: a directory, made a Context."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from layersmith.context import Context


def context_from_stream(stream: BinaryIO, into: Path) -> Context:
    """``build -``: an archive (any compression), or a lone Buildfile, which becomes ``into/Buildfile``."""
    raise NotImplementedError


def context_from_url(url: str, into: Path, *, fetch: Callable[..., Any]) -> Context:
    """A git repository (``….git#ref:subdir``, ``git://``, ``git@…``), or an http(s) URL of an archive or Buildfile."""
    raise NotImplementedError


def is_remote(text: str) -> bool:
    """Whether ``text`` names a git or http(s) context rather than a local directory."""
    raise NotImplementedError
