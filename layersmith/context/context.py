"""CONTEXT: find a directory's ignore file. In: a directory and the Buildfile's path. Out: `Context`.

Contexts that are not a local directory (stdin, git, a tarball) are unpacked into one by `execute.contexts` first.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from layersmith.context.ignore import Ignore


@dataclass(frozen=True, slots=True)
class Context:
    """A directory that COPY, ADD and bind mounts may read from: the build context or a named one."""

    root: Path
    ignore: Ignore | None = None
    label: str = "the build context"
    """How messages call it."""

    @classmethod
    def open(cls, root: Path, *, buildfile: Path | None = None, label: str = "the build context") -> Context:
        """The context at ``root`` with its ignore rules.

        They come from ``<buildfile>.dockerignore`` beside the Buildfile, else from ``.containerignore``, else from
        ``.dockerignore`` at the root; a context other than the main one has no ``buildfile``.

        Raises:
            UsageError: ``root`` is not a directory.
            BuildfileSyntaxError: a rule does not parse; the span points into the ignore file.
        """
        raise NotImplementedError
