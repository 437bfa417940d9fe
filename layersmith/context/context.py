"""CONTEXT: a directory to build from. In: its path and the Buildfile's. Out: `Context`, with its ignore rules.

Contexts that are not a local directory (stdin, git, a tarball) are unpacked into one by `execute.contexts` first.
"""

from __future__ import annotations

from pathlib import Path

from layersmith.context.ignore import Ignore, parse_ignore
from layersmith.dataclass import dataclass
from layersmith.errors import UsageError

IGNORE_FILES = (".containerignore", ".dockerignore")
MAX_IGNORE_SIZE = 4 << 20


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
            UsageError: ``root`` is not a directory, or its ignore file can't be read.
            BuildfileSyntaxError: a rule does not parse; the span points into the ignore file.
        """
        if not root.is_dir():
            what = "is not a directory" if root.exists() else "does not exist"
            raise UsageError(f"{label} {str(root)!r} {what}", hint="name a directory, a URL, or - for stdin")
        for path in ignore_files(root, buildfile):
            text = _read(path)
            if text is not None:
                return cls(root, parse_ignore(text, path.name), label)
        return cls(root, None, label)


def ignore_files(root: Path, buildfile: Path | None) -> tuple[Path, ...]:
    """Where the ignore rules of the context at ``root`` may be: the first that exists has them."""
    own = () if buildfile is None else (buildfile.with_name(buildfile.name + ".dockerignore"),)
    return (*own, *(root / name for name in IGNORE_FILES))


def _read(path: Path) -> bytes | None:
    """The text of an ignore file, or None where there is none. Only a regular file is read: never a fifo or device."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            data = file.read(MAX_IGNORE_SIZE + 1)
    except OSError as error:
        raise UsageError(f"can't read {path.name}: {error.strerror}", hint="make it readable") from error
    if len(data) > MAX_IGNORE_SIZE:
        raise UsageError(f"{path.name} is larger than {MAX_IGNORE_SIZE >> 20} MiB", hint="shorten it")
    return data
