"""SIGKILL at any moment, and a disk that is full: the store is clean afterwards and the images are what they were.

A few kills of the many that tests/benchmarks/kill_loop.py does.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from killing import KillLoop, small_disk
from program import Layersmith

from layersmith.transport.registry.fake import FakeRegistry

pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.fixture
def base_tar(busybox_tar: Path | None) -> Path:
    if busybox_tar is None:
        pytest.skip("needs a static busybox for a small base image")
    return busybox_tar


def test_kills_harm_nothing(layersmith: Layersmith, tmp_path: Path, base_tar: Path) -> None:
    """fsck is clean after each, no process is left, and every image is the undisturbed one."""
    work = tmp_path / "work"
    work.mkdir()
    with FakeRegistry() as registry:
        loop = KillLoop(layersmith, work, base_tar, registry=registry.host, seed=1)
        loop.prepare()
        tally = loop.run(20)
    assert tally.compared >= 5
    assert not layersmith.processes()
    assert not layersmith.mounts()


def test_kills_on_a_small_disk(layersmith: Layersmith, tmp_path: Path, base_tar: Path) -> None:
    """The same where what is written is often more than there is room for."""
    work = tmp_path / "work"
    work.mkdir()
    try:
        with small_disk(work, 14) as disk:
            loop = KillLoop(layersmith.with_store(disk / "store"), work, base_tar, seed=2, small=True)
            loop.prepare()
            loop.run(20)
    except OSError as error:
        pytest.skip(f"needs loop devices and mkfs.ext4: {error}")
