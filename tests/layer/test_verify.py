"""A snapshot that lost something is recognised, and one that lost nothing is not."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from layersmith.layer.unpack import unpack
from layersmith.layer.verify import snapshot_problem
from layersmith.oci.descriptor import Layer
from layersmith.store import Store

Put = Callable[..., Layer]
Tar = Callable[..., bytes]
MINE = {"uid": os.geteuid(), "gid": os.getegid()}


@pytest.fixture
def snapshot(store: Store, put: Put, tar: Tar) -> tuple[str, Path]:
    layer = put(
        tar(
            ("d", "dir", {"mode": 0o750} | MINE),
            ("d/f", "file", b"content", MINE),
            ("d/empty", "file", b"", MINE),
            ("d/hard", "link", "d/f", MINE),
            ("d/s", "sym", "f", MINE),
            ("p", "fifo", MINE),
        )
    )
    return layer.diff_id, unpack(store, layer, ignore_chown_errors=os.geteuid() != 0)


def test_a_whole_snapshot_has_no_problem(store: Store, snapshot: tuple[str, Path]) -> None:
    """Nothing is found in what was just unpacked."""
    assert snapshot_problem(store, *snapshot) == ""


@pytest.mark.parametrize(
    ("damage", "wanted"),
    [
        (lambda top: (top / "d/empty").unlink(), "d/empty"),
        (lambda top: os.truncate(top / "d/f", 0), "0 bytes instead of 7"),
        (lambda top: (top / "d/f").chmod(0o600), "mode 600"),
        (lambda top: (top / "d").chmod(0o755), "mode 755 instead of 750"),
        (lambda top: ((top / "d/s").unlink(), (top / "d/s").symlink_to("g")), "leads elsewhere"),
        (lambda top: ((top / "p").unlink(), (top / "p").write_text("")), "another type"),
    ],
)
def test_every_loss_is_named(
    store: Store, snapshot: tuple[str, Path], damage: Callable[[Path], object], wanted: str
) -> None:
    """A missing file, another size, mode, target or type."""
    key, path = snapshot
    damage(path)
    assert wanted in snapshot_problem(store, key, path)


def test_without_an_index_nothing_is_certain(store: Store, snapshot: tuple[str, Path]) -> None:
    """What can't be checked is not vouched for."""
    for index in store.layers.iterdir():
        index.unlink()
    assert "index" in snapshot_problem(store, *snapshot)
