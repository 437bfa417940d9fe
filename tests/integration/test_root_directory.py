"""The image's root directory: what it is below is what a step sees, and only a change of it is recorded."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from program import Layersmith

pytestmark = pytest.mark.root


def test_a_step_sees_the_roots_own_mode_and_owner_and_leaves_them(
    layersmith: Layersmith, busybox_tar: Path | None, tmp_path: Path
) -> None:
    """A base whose root is 0711 and not root's stays so through RUN, and RUN's layer says nothing of it."""
    if busybox_tar is None:
        pytest.skip("needs a static busybox")
    rootfs = tmp_path / "rootfs.tar"
    with tarfile.open(busybox_tar) as old, tarfile.open(rootfs, "w") as new:
        top = tarfile.TarInfo(".")
        top.type, top.mode, top.uid, top.gid = tarfile.DIRTYPE, 0o711, 7, 8
        new.addfile(top)
        for member in old:
            content = old.extractfile(member) if member.isreg() else None
            new.addfile(member, content or io.BytesIO())
    layersmith("import", rootfs, "odd")
    (tmp_path / "Buildfile").write_text('FROM odd\nRUN stat -c "%a %u:%g" / > /seen\nRUN touch /more\n')
    layersmith("build", "-t", "built", tmp_path)
    shown = layersmith("run", "--rm", "built", "sh", "-c", 'cat /seen; stat -c "%a %u:%g" /').stdout
    assert shown == "711 7:8\n711 7:8\n"
    changed = layersmith("diff", "--layer", "3", "built").stdout.split()
    assert changed == ["A", "/more"]
