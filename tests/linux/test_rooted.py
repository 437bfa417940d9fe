"""Paths below a root that nobody may leave: by openat2, and by hand where the kernel lacks it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from layersmith.linux import libc, rooted


@pytest.fixture(params=["openat2", "walk"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A root with links of every kind, and a secret beside it."""
    (tmp_path / "secret").write_text("outside")
    top = tmp_path / "root"
    (top / "etc").mkdir(parents=True)
    (top / "etc/file").write_text("inside")
    (top / "secret").write_text("inside")
    for name, target in {
        "absolute": "/etc/file",
        "climbing": "../../../etc/file",
        "escape": "../secret",
        "away": f"{tmp_path}/secret",
        "directory": "/etc",
        "loop": "loop",
        "magic": "/proc/self/root",
    }.items():
        (top / name).symlink_to(target)
    if request.param == "walk":

        def missing(*_: object) -> int:
            raise OSError(errno.ENOSYS, "Function not implemented")

        monkeypatch.setattr(libc, "openat2", missing)
    descriptor = os.open(top, os.O_PATH)
    yield descriptor
    os.close(descriptor)


def read(root: int, path: str) -> bytes | None:
    return rooted.read_in_root(root, path)


@pytest.mark.parametrize(
    "path",
    [
        "etc/file", "/etc/file", "//etc/./file", "absolute", "climbing", "directory/file", "escape", "/secret",
        "../secret", "etc/../../../secret", "directory/../secret", "../../../../etc/file",
    ],
)  # fmt: skip
def test_everything_stays_inside(root: int, path: str) -> None:
    """Absolute links and ``..`` end at the root, as after a chroot."""
    assert read(root, path) == b"inside"


@pytest.mark.parametrize("path", ["away", "loop", "etc/missing", "etc/file/below", "etc"])
def test_what_is_not_there(root: int, path: str) -> None:
    """A link to a host path leads nowhere inside; loops end; a directory is no file."""
    assert read(root, path) is None


def test_last_link_is_not_followed(root: int) -> None:
    """follow=False: ELOOP, or with O_PATH the link itself."""
    with pytest.raises(OSError, match="symbolic links") as caught:
        rooted.open_in_root(root, "absolute", os.O_RDONLY, follow=False)
    assert caught.value.errno == errno.ELOOP
    link = rooted.open_in_root(root, "absolute", os.O_PATH, follow=False)
    try:
        assert os.readlink("", dir_fd=link) == "/etc/file"
    finally:
        os.close(link)


def test_creating_through_a_link(root: int, tmp_path: Path) -> None:
    """O_CREAT below a linked directory makes the file inside."""
    os.close(rooted.open_in_root(root, "directory/new", os.O_WRONLY | os.O_CREAT, 0o600))
    assert (tmp_path / "root/etc/new").exists()


def test_parent(root: int) -> None:
    """The directory and the name; links are followed up to the last component only."""
    directory, name = rooted.open_parent_in_root(root, "directory/absolute/")
    try:
        assert name == b"absolute"
        assert sorted(os.listdir(f"/proc/self/fd/{directory}")) == ["file"]
    finally:
        os.close(directory)
    for path in ("/", ".", "a/.."):
        with pytest.raises(ValueError, match="names no directory entry"):
            rooted.open_parent_in_root(root, path)


def test_fifo_does_not_block(root: int, tmp_path: Path) -> None:
    """A FIFO where a file is expected is no file, and is not waited for."""
    os.mkfifo(tmp_path / "root/fifo")
    assert read(root, "fifo") is None


def test_limit(root: int) -> None:
    """No more than ``limit`` bytes."""
    assert rooted.read_in_root(root, "etc/file", limit=3) == b"ins"
