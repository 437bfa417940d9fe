"""Directory trees to items: filters, prefixes, and files that change under the scan."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from layersmith.errors import StepError
from layersmith.layer.entry import DIR, LNK, REG, SYM, Entry
from layersmith.layer.scan import Verdict, scan


@pytest.fixture
def top(tmp_path: Path) -> Path:
    root = tmp_path / "top"
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "b" / "f").write_text("f")
    (root / "a" / "g").write_text("g")
    (root / "c").mkdir()
    (root / "c" / "h").write_text("h")
    (root / "link").symlink_to("a/g")
    os.link(root / "a" / "g", root / "z")
    return root


def found(top: Path, **options: object) -> list[bytes]:
    return [entry.path for entry, _ in scan(top, **options)]  # type: ignore[arg-type]


def test_everything(top: Path) -> None:
    """All files, parents first, links as links, contents by descriptor."""
    bodies = {}
    kinds = {}
    for entry, content in scan(top, prefix=b"p/q", with_root=True):
        kinds[entry.path] = entry.kind
        if isinstance(content, int):
            bodies[entry.path] = os.read(content, 100)
    assert list(kinds) == [
        b"p/q", b"p/q/a", b"p/q/a/b", b"p/q/a/b/f", b"p/q/a/g", b"p/q/c", b"p/q/c/h", b"p/q/link", b"p/q/z",
    ]  # fmt: skip
    assert (kinds[b"p/q"], kinds[b"p/q/link"], kinds[b"p/q/z"]) == (DIR, SYM, LNK)
    assert bodies == {b"p/q/a/b/f": b"f", b"p/q/a/g": b"g", b"p/q/c/h": b"h"}


def test_a_directory_that_waits_for_what_is_in_it(top: Path) -> None:
    """DESCEND gives directories only on the way to something that is kept; SKIP is never looked into."""
    asked = []

    def select(path: bytes, is_dir: bool) -> Verdict:
        asked.append(path)
        if is_dir:
            return Verdict.SKIP if path == b"c" else Verdict.DESCEND
        return Verdict.KEEP if path == b"a/b/f" else Verdict.SKIP

    assert found(top, select=select) == [b"a", b"a/b", b"a/b/f"]
    assert b"c/h" not in asked
    assert found(top, select=lambda path, is_dir: Verdict.DESCEND if is_dir else Verdict.SKIP) == []


def test_change(top: Path) -> None:
    """Owner, mode and time can be rewritten on the way."""

    def change(entry: Entry) -> Entry:
        return entry._replace(uid=7, gid=8, mode=0o600, mtime=0)

    assert {entry[2:6] for entry, _ in scan(top, change=change)} == {(0o600, 7, 8, 0)}


def test_sockets_become_empty_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in BuildKit's COPY."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s")
        ((entry, content),) = scan(tmp_path)
    assert (entry.path, entry.kind, entry.size, content) == (b"s", REG, 0, None)


def test_reading_leaves_access_times_alone(top: Path) -> None:
    """A scan is invisible in the files' times."""
    os.utime(top / "a" / "g", (1, 1))
    for _, content in scan(top):
        if isinstance(content, int):
            os.read(content, 10)
    assert (top / "a" / "g").stat().st_atime == 1


def test_a_file_swapped_for_a_link_is_not_followed(top: Path, tmp_path: Path) -> None:
    """What turns into a link or a FIFO after it was listed is an error, not somebody else's file."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    for make in (lambda path: path.symlink_to(secret), os.mkfifo):
        items = scan(top)
        assert next(items)[0].path == b"a"
        assert next(items)[0].path == b"a/b"
        (top / "a" / "g").unlink()
        make(top / "a" / "g")
        with pytest.raises(StepError):
            list(items)
        (top / "a" / "g").unlink()
        (top / "a" / "g").write_text("g")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_named(top: Path) -> None:
    """The error says which file."""
    (top / "c" / "h").chmod(0)
    with pytest.raises(StepError, match="'h'"):
        list(scan(top))


def test_descriptors_are_closed(top: Path) -> None:
    """A scan that is dropped half-way leaves nothing open."""
    before = os.listdir("/proc/self/fd")
    for count in range(1, 8):
        items = scan(top)
        for _ in range(count):
            next(items)
        items.close()  # type: ignore[attr-defined]
    assert os.listdir("/proc/self/fd") == before
