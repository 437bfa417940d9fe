"""Where the kernel mounts no overlay, fuse-overlayfs does: the same images come out, and nothing stays behind."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from box import BUSYBOX, Box, boxed

from layersmith.dataclass import replace
from layersmith.errors import SandboxError
from layersmith.linux import fuse, overlay
from layersmith.linux.overlay import Overlay

pytestmark = [
    pytest.mark.skipif(BUSYBOX is None, reason="needs a static busybox"),
    pytest.mark.skipif(shutil.which(fuse.PROGRAM) is None, reason="needs fuse-overlayfs"),
    pytest.mark.skipif(not os.access(fuse.DEVICE, os.R_OK | os.W_OK), reason="needs /dev/fuse"),
    pytest.mark.xdist_group("machine"),
]

WITHOUT_OVERLAY = """
import sys
from layersmith.linux import fuse
fuse.open_overlay = lambda overlay: (_ for _ in ()).throw(fuse.SandboxError("no overlay", hint="a newer kernel"))
from layersmith.cli import run
sys.exit(run(sys.argv[1:]))
"""
BUILDFILE = b"""FROM busybox
RUN mkdir -p /d/replaced /d/gone && echo one > /d/file && echo old > /d/replaced/old && echo hi > /top
RUN rm /d/file && rm -r /d/gone /d/replaced && mkdir /d/replaced && echo new > /d/replaced/new
RUN test ! -e /d/file && test ! -e /d/replaced/old && chown 1000:2000 /top && ln /top /d/hard && chmod 600 /d/replaced/new
RUN rm -r /d/replaced && ln -s /top /d/replaced
"""


@pytest.fixture(scope="module", params=("root", "rootless"))
def box(request: pytest.FixtureRequest) -> Iterator[Box]:
    with boxed(request.param) as made:
        yield made


def without_overlay(
    box: Box, *words: str, stdin: bytes = b"", **env: str
) -> subprocess.CompletedProcess[bytes]:
    """``layersmith`` on a kernel that refuses every overlay with an upper directory."""
    return subprocess.run(
        [box.python, "-c", WITHOUT_OVERLAY, *words],
        input=stdin,
        capture_output=True,
        timeout=60,
        env=box.env | env,
        cwd=box.home,
        **box.options,
    )


def test_the_same_image_comes_out(box: Box) -> None:
    """Whiteouts, replaced directories, owners, hard links and modes: to the digest, under SOURCE_DATE_EPOCH."""
    words = (
        "build",
        "-q",
        "--no-cache",
        "--network=host",
        "--source-date-epoch",
        "1000000000",
        "-f",
        "-",
        ".",
    )
    by_program = without_overlay(box, *words, "-t", "fused", stdin=BUILDFILE)
    assert by_program.returncode == 0, by_program.stderr.decode()
    assert by_program.stdout.decode() == box(*words, stdin=BUILDFILE)
    running = subprocess.run(["pgrep", "-f", f"{fuse.PROGRAM}.*{box.home}"], capture_output=True)
    assert not running.stdout


def test_runs_containers(box: Box) -> None:
    """A container writes to its own files, and they are there when it starts again."""
    done = without_overlay(
        box,
        "run",
        "--network=host",
        "--name",
        "kept",
        "busybox",
        "sh",
        "-c",
        "rm /etc/motd; echo x >> /new; cat /new",
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == b"x\n"
    assert without_overlay(box, "start", "-a", "kept").stdout == b"x\nx\n"
    assert box("diff", "kept").split() == ["C", "/etc", "D", "/etc/motd", "A", "/new"]
    assert without_overlay(box, "rm", "kept").returncode == 0


def test_says_what_would_help(box: Box, tmp_path: Path) -> None:
    """Without the program the kernel's own error stands, and names the package."""
    done = without_overlay(box, "run", "busybox", "true", PATH="/nowhere")
    assert done.returncode == 125
    assert b"no overlay\nhint: a newer kernel; or install fuse-overlayfs" in done.stderr
    del tmp_path


@pytest.mark.root
def test_asks_the_kernel_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it mounts overlays the program is not used, and the trial leaves the directories as they were."""
    for name in ("lower", "upper", "work"):
        (tmp_path / name).mkdir()
    layers = Overlay((str(tmp_path / "lower"),), str(tmp_path / "upper"), str(tmp_path / "work"))
    assert not fuse.needs_program(layers)
    os.close(overlay.open_overlay(layers))

    def refuse(_: Overlay) -> int:
        raise SandboxError("no")

    monkeypatch.setattr(fuse, "open_overlay", refuse)
    assert fuse.needs_program(layers)
    assert not fuse.needs_program(replace(layers, upper=None, work=None))
    monkeypatch.setattr(fuse, "DEVICE", str(tmp_path / "none"))
    with pytest.raises(SandboxError) as caught:
        fuse.needs_program(layers)
    assert "needs" in caught.value.hint


@pytest.mark.root
def test_settles_what_the_program_leaves(tmp_path: Path) -> None:
    """Its files for whiteouts and opaque directories become the kernel's; what only looks alike stays."""
    (tmp_path / "dir").mkdir()
    for name in (".wh..wh..opq", ".wh.gone", "stays"):
        (tmp_path / "dir" / name).touch()
    os.setxattr(tmp_path / "dir" / "stays", "user.fuseoverlayfs.origin", b"x")
    fuse.settle(str(tmp_path), "user")
    assert sorted(os.listdir(tmp_path / "dir")) == ["gone", "stays"]
    assert os.stat(tmp_path / "dir" / "gone").st_rdev == 0
    assert os.getxattr(tmp_path / "dir", "user.overlay.opaque") == b"y"
    assert os.listxattr(tmp_path / "dir" / "stays") == []
