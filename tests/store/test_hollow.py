"""Empty directories that stay for some minutes, so that ext4 does not put new snapshots where old ones were deleted."""

from __future__ import annotations

import os
import time
from collections import namedtuple
from pathlib import Path

import pytest

from layersmith.store import Store, files, hollow

Disk = namedtuple("Disk", "f_bavail f_frsize f_favail")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store on ext4 with room, whatever this machine has."""
    monkeypatch.setattr(files, "HOLLOW_EACH", 1)
    monkeypatch.setattr(hollow, "is_spread", lambda path: True)
    monkeypatch.setattr(hollow.os, "statvfs", lambda path: Disk(1 << 30, 4096, 1 << 30))
    return tmp_path / "store"


def trash_a_tree(root: Path) -> None:
    """Five directories and five files, moved aside in one command, whose own directory is a sixth."""
    with Store.open(root) as store:
        top = root / "snapshots" / "tree"
        for number in range(4):
            (top / f"d{number}").mkdir(parents=True)
            (top / f"d{number}" / "file").write_text("x")
        (top / "file").write_text("x")
        store.trash(top)


def kept(root: Path) -> list[Path]:
    return list((root / "tmp" / hollow.NAME).glob("*/*"))


def test_files_go_at_once_and_directories_later(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the minutes that ext4 minds what was deleted, the next command takes them away."""
    trash_a_tree(root)
    assert len(kept(root)) == 6
    assert not [path for path in (root / "tmp").rglob("*") if path.is_file()]
    with Store.open(root):
        pass
    assert len(kept(root)) == 6
    now = time.time()
    monkeypatch.setattr(hollow.time, "time", lambda: now + hollow.SECONDS + 61)
    with Store.open(root):
        pass
    assert not list((root / "tmp" / hollow.NAME).iterdir())


def test_a_prune_leaves_none(root: Path) -> None:
    """It is asked to make room."""
    trash_a_tree(root)
    with Store.open(root) as store:
        assert store.tidy()
        assert not kept(root)


@pytest.mark.parametrize("disk", [Disk(1 << 18, 4096, 1 << 30), Disk(1 << 30, 4096, 1000)])
def test_none_where_there_is_little_room(root: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks and inodes count."""
    monkeypatch.setattr(hollow.os, "statvfs", lambda path: disk)
    trash_a_tree(root)
    assert not (root / "tmp" / hollow.NAME).exists()


def test_none_on_other_file_systems(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There nothing is gained by it."""
    monkeypatch.setattr(hollow, "is_spread", lambda path: False)
    trash_a_tree(root)
    assert os.listdir(root / "tmp") == []


def test_few_of_many_directories_stay(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One in a part of the disk does: to delete them all later takes as long as to delete them now."""
    monkeypatch.setattr(files, "HOLLOW_EACH", 32)
    with Store.open(root) as store:
        top = root / "snapshots" / "tree"
        for number in range(99):
            (top / f"d{number}").mkdir(parents=True)
        store.trash(top)
    assert not top.exists()
    assert 4 <= len(kept(root)) <= 5
