"""What a build depended on, told by the status of files."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from layersmith import recall
from layersmith.recall import fingerprint


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "context"
    (root / "src" / "deep").mkdir(parents=True)
    (root / "src" / "a.py").write_bytes(b"one")
    (root / "src" / "b.py").write_bytes(b"one")
    (root / "src" / "deep" / "c").write_bytes(b"three")
    (root / "src" / "link").symlink_to("a.py")
    (root / "other").write_bytes(b"unrelated")
    return root


def of(root: Path, *paths: str, before: int | None = None) -> str | None:
    return fingerprint({"main": (root, paths or ("src",))}, before=before)


def same_size_same_mtime(root: Path) -> None:
    path = root / "src" / "a.py"
    status = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def replaced(root: Path) -> None:
    path = root / "src" / "a.py"
    new = root / "src" / "new"
    new.write_bytes(b"one")
    os.utime(new, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    new.rename(path)


def relinked(root: Path) -> None:
    (root / "src" / "link").unlink()
    (root / "src" / "link").symlink_to("b.py")


EDITS: dict[str, Callable[[Path], object]] = {
    "touch": lambda root: (root / "src" / "a.py").touch(),
    "content": lambda root: (root / "src" / "a.py").write_bytes(b"longer"),
    "content of the same size and mtime": same_size_same_mtime,
    "replaced by a rename": replaced,
    "mode": lambda root: (root / "src" / "a.py").chmod(0o600),
    "mode of a directory": lambda root: (root / "src" / "deep").chmod(0o700),
    "new file": lambda root: (root / "src" / "deep" / "new").touch(),
    "removed file": lambda root: (root / "src" / "deep" / "c").unlink(),
    "renamed": lambda root: (root / "src" / "a.py").rename(root / "src" / "z.py"),
    "two names exchanged": lambda root: (
        (root / "src" / "a.py").rename(root / "src" / "t"),
        (root / "src" / "b.py").rename(root / "src" / "a.py"),
        (root / "src" / "t").rename(root / "src" / "b.py"),
    ),
    "another target of a symlink": relinked,
    "new empty directory": lambda root: (root / "src" / "empty").mkdir(),
    "one more name": lambda root: os.link(root / "src" / "a.py", root / "src" / "again"),
    "mode of the top": lambda root: (root / "src").chmod(0o700),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_an_edit_is_seen(tree: Path, edit: Callable[[Path], object]) -> None:
    """Every change below a source changes the fingerprint."""
    old = of(tree)
    time.sleep(0.02)  # the kernel's clock for file times ticks
    edit(tree)
    assert of(tree) != old is not None


def test_what_is_not_read_is_not_looked_at(tree: Path) -> None:
    """Without an edit, or with one elsewhere, the fingerprint stays."""
    old = of(tree)
    (tree / "other").write_bytes(b"edited")
    assert of(tree) == old is not None
    assert of(tree, "other") not in (None, of(tree, ""), old)


def test_what_a_status_cannot_tell(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A symlink on the way, one that a wildcard may match, what is gone, too many files, and changes just now."""
    (tree / "way").symlink_to("src")
    assert of(tree, "way/a.py") is None
    assert of(tree, "way") is None
    assert of(tree, "src/*") is None
    assert of(tree, "missing") is None
    now = time.time_ns()
    assert of(tree, before=now - 2_000_000_000) is None
    assert of(tree, "other", before=now - 2_000_000_000) is None
    assert of(tree, before=now + 2_000_000_000) == of(tree)
    monkeypatch.setattr(recall, "MAX_FILES", 3)
    assert of(tree) is None


@pytest.mark.parametrize(
    ("written", "literal"),
    [
        ("/", ""),
        (".", ""),
        ("src/", "src"),
        ("/src/./a.py", "src/a.py"),
        ("*.py", "*"),
        ("src/*/c", "src/*"),
        ("src/[ab].py", "src/*"),
        ("src/../other", "src/*"),
    ],
)
def test_where_a_source_is_looked_for(written: str, literal: str) -> None:
    """The path up to the first wildcard."""
    assert recall._literal(written) == literal
