"""Our layers judged from outside: skopeo carries them, umoci unpacks them, GNU tar applies them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from layersmith.image import Image
from layersmith.layer.changes import changes
from layersmith.layer.pack import pack
from layersmith.layer.unpack import lowerdirs
from layersmith.layer.view import View
from layersmith.oci.config import History, ImageConfig
from layersmith.oci.descriptor import Layer
from layersmith.oci.platform import native
from layersmith.store import Store

Tree = Callable[[Path], dict[bytes, tuple[object, ...]]]

CAPABILITY = b"\1\0\0\2\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0"


def first(root: Path) -> None:
    """Everything that a layer can hold."""
    (root / "bin").mkdir()
    (root / "bin" / "ping").write_bytes(os.urandom(3000))
    os.setxattr(root / "bin" / "ping", "security.capability", CAPABILITY)
    os.setxattr(root / "bin" / "ping", "user.note", b"\xff\0binary")
    os.link(root / "bin" / "ping", root / "bin" / "ping6")
    (root / "bin" / "su").write_text("su")
    os.chown(root / "bin" / "su", 0, 42)
    (root / "bin" / "su").chmod(0o6755)
    long = root / ("l" * 150) / ("m" * 150)
    long.mkdir(parents=True)
    (long / ("n" * 255)).write_text("long")
    (root / os.fsdecode(b"latin-\xe9\xff")).write_text("not UTF-8")
    (root / os.fsdecode(b"x\xe9" * 90)).symlink_to("t" * 300)
    os.mkfifo(root / "fifo", 0o622)
    os.mknod(root / "null", 0o20666, os.makedev(1, 3))
    os.mknod(root / "disk", 0o60640, os.makedev(259, 70000))
    with (root / "sparse").open("wb") as file:
        file.write(b"start")
        file.truncate(30 << 20)
        file.seek(20 << 20)
        file.write(b"middle")
    (root / "old").write_text("1901")
    os.chown(root / "old", 70_000, 3_000_000)
    os.utime(root / "old", (-2_000_000_000, -2_000_000_000))
    (root / "sticky").mkdir()
    (root / "sticky").chmod(0o1777)
    for name in ("gone", "emptied", "replaced"):
        (root / name / "sub").mkdir(parents=True)
        (root / name / "sub" / "file").write_text(name)
    (root / "becomes-a-directory").write_text("x")
    (root / "becomes-a-file" / "x").mkdir(parents=True)


def second(root: Path) -> None:
    """Everything that a layer can do to the one below."""
    subprocess.run(["rm", "-r", root / "gone", root / "emptied", root / "replaced"], check=True)
    (root / "emptied").mkdir()
    (root / "replaced" / "sub").mkdir(parents=True)
    (root / "replaced" / "sub" / "new").write_text("new")
    (root / "becomes-a-directory").unlink()
    (root / "becomes-a-directory").mkdir()
    subprocess.run(["rm", "-r", root / "becomes-a-file"], check=True)
    (root / "becomes-a-file").write_text("y")
    (root / "bin" / "su").chmod(0o711)
    os.rename(root / "old", root / "bin" / "old")
    os.link(root / "bin" / "old", root / "older")
    (root / "becomes-a-file").chmod(0o600)


def build(
    store: Store, scratch: Path, tree: Tree, *, marks: bool
) -> tuple[list[Layer], dict[bytes, tuple[object, ...]]]:
    layers: list[Layer] = []
    seen: dict[bytes, tuple[object, ...]] = {}
    for number, work in enumerate((first, second)):
        top = scratch / f"step{number}"
        with mounted(lowerdirs(store, layers), top) as merged:
            work(merged)
            settle(merged)
            seen = tree(merged)
        with View(store, layers) as lower:
            layers.append(pack(store, changes(top / "upper", lower=None if marks else lower)).layer)
    return layers, seen


def settle(root: Path) -> None:
    """Whole seconds, as a layer has them."""
    for path in root.rglob("*"):
        seconds = int(path.lstat().st_mtime // 1)
        os.utime(path, (seconds, seconds), follow_symlinks=False)


class mounted:
    """A writable overlay on ``lowers`` whose upper directory is ``top/upper``."""

    def __init__(self, lowers: tuple[Path, ...], top: Path) -> None:
        self.top = top
        self.lowers = lowers

    def __enter__(self) -> Path:
        for name in ("upper", "work", "merged", "empty"):
            (self.top / name).mkdir(parents=True)
        lower = ":".join(map(str, self.lowers or (self.top / "empty",)))
        options = (
            f"lowerdir={lower},upperdir={self.top / 'upper'},workdir={self.top / 'work'},"
            "index=off,metacopy=off,redirect_dir=off"
        )
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, self.top / "merged"], check=True)
        return self.top / "merged"

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", self.top / "merged"], check=True)


@pytest.mark.root
@pytest.mark.interop
@pytest.mark.needs_skopeo
@pytest.mark.needs_umoci
@pytest.mark.parametrize("marks", [False, True], ids=["explicit whiteouts", "opaque marks"])
def test_umoci_unpacks_what_we_mount(marks: bool, store: Store, tree: Tree, tmp_path: Path) -> None:
    """Through skopeo, a docker-archive and gzip, umoci's tree equals the overlay's: every type, owner, time and link."""
    layers, seen = build(store, tmp_path, tree, marks=marks)
    image = Image(ImageConfig(platform=native()))
    for layer in layers:
        image = image.append(layer, History(created_by="test"))
    store.refs.set("demo:latest", image.write(store))
    run = ["skopeo", "--insecure-policy", "copy", "-q"]
    gzipped, archive, layout = tmp_path / "gzip", tmp_path / "demo.tar", tmp_path / "layout"
    # Docker's own formats have no zstd, nor has this umoci.
    to_gzip = ["--dest-compress-format", "gzip"]
    subprocess.run([*run, *to_gzip, f"oci:{store.root}:demo:latest", f"oci:{gzipped}:demo"], check=True)
    subprocess.run([*run, f"oci:{gzipped}:demo", f"docker-archive:{archive}:demo:latest"], check=True)
    subprocess.run([*run, f"docker-archive:{archive}", f"oci:{layout}:demo"], check=True)
    subprocess.run(
        ["umoci", "--log=error", "unpack", "--image", f"{layout}:demo", tmp_path / "bundle"], check=True
    )
    index = json.loads((layout / "index.json").read_text())
    assert len(index["manifests"]) == 1
    theirs = tree(tmp_path / "bundle" / "rootfs")
    with mounted(lowerdirs(store, layers), tmp_path / "again") as merged:
        ours = tree(merged)
    assert ours == seen
    assert set(theirs) == set(ours)
    for path in ours:
        # skopeo leaves times, owners and contents alone; a link's own xattrs don't exist.
        assert theirs[path] == ours[path], path
