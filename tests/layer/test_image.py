"""Layers as EROFS images: the kernel shows the same files as in a directory, and nobody takes a damaged one for whole."""

from __future__ import annotations

import io
import os
import pickle
import stat
import subprocess
import tarfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from layersmith.errors import HostileInputError, StoreError
from layersmith.layer import image, unpack
from layersmith.layer.blob import Limits, layer_index
from layersmith.layer.erofs import START, tar_size
from layersmith.layer.verify import snapshot_problem
from layersmith.layer.view import View
from layersmith.linux import erofs, userns
from layersmith.linux.overlay import Overlay, overlay
from layersmith.oci.descriptor import Layer
from layersmith.store import Store
from layersmith.store.fsck import fsck
from layersmith.store.gc import prune

Put = Callable[..., Layer]
Tar = Callable[..., bytes]
Look = Callable[[Path], dict[bytes, tuple[object, ...]]]

mounts = pytest.mark.usefixtures("mounted_here")
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")  # cap_net_raw=ep
ACL = bytes.fromhex(
    "0200000001000600ffffffff020007000100000004000400ffffffff10000700ffffffff20000400ffffffff"
)


@pytest.fixture
def mounted_here(tmp_path: Path) -> None:
    """Skips where the kernel can't mount images of this directory."""
    if os.geteuid() != 0 or not erofs.known_to_kernel():
        pytest.skip("needs root and a kernel that mounts EROFS files")
    kind = subprocess.run(
        ["stat", "-f", "-c", "%T", str(tmp_path)], capture_output=True, text=True
    ).stdout.strip()
    if kind == "overlayfs":
        pytest.skip("no image can be mounted from a file on an overlay")


@pytest.fixture
def whatever_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small layers become images, too."""
    monkeypatch.setattr(unpack, "worthwhile", lambda *_: True)


@pytest.fixture
def unmounted(whatever_size: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images are made, but where there should be a mount is the image itself."""
    monkeypatch.setattr(unpack, "mountable", lambda: True)
    monkeypatch.setattr(unpack, "mounted", lambda store, path: path)


def inside(root: Path, do: Callable[[Store], object]) -> object:
    """What ``do`` gives in a process with a private mount namespace."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            userns.enter()
            with Store.open(root) as store:
                found = do(store)
        except BaseException:
            found = traceback.format_exc()
        with os.fdopen(writer, "wb") as out:
            pickle.dump(found, out)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        found = pickle.load(answer)
    os.waitpid(child, 0)
    return found


def differences(seen: object, wanted: tuple[object, dict[bytes, object]]) -> list[object]:
    """What a reader of a failure wants to see."""
    if not isinstance(seen, tuple):
        return [seen]
    (root, files), (wanted_root, wanted_files) = seen, wanted
    paths = sorted(files.keys() | wanted_files.keys())
    found = [(p, files.get(p), wanted_files.get(p)) for p in paths if files.get(p) != wanted_files.get(p)]
    return [*found, (root, wanted_root)] if root != wanted_root else found


def both(store: Store, layer: Layer, look: Look) -> list[object]:
    """How the layer's files in an image differ from those in a directory."""

    def in_image(store: Store) -> object:
        path = unpack.unpack(store, layer, images=True)
        assert os.path.ismount(path), path
        return root_of(path), look(path)

    seen = inside(store.root, in_image)
    assert [snapshot.path.suffix for snapshot in store.snapshots.list()] == [".erofs"]
    path = unpack.unpack(store, layer)
    assert path.is_dir() and [snapshot.path for snapshot in store.snapshots.list()] == [path]
    return differences(seen, (root_of(path), look(path)))


def root_of(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_mode, status.st_uid, status.st_gid


@mounts
def test_the_kernel_shows_what_a_directory_has(
    store: Store, put: Put, tar: Tar, tree: Look, whatever_size: None
) -> None:
    """All types, owners, modes, times before 1970, names and links as long as they can be, attributes, hard links."""
    xattrs = {"SCHILY.xattr.user.note": "x" * 300, "SCHILY.xattr.user.empty": ""}
    acl = {"SCHILY.xattr.system.posix_acl_access": ACL.decode("utf-8", "surrogateescape")}
    capable = {"SCHILY.xattr.security.capability": CAPABILITY.decode("latin1")}
    layer = put(
        tar(
            (
                "./",
                "dir",
                {"mode": 0o1751, "uid": 7, "gid": 8, "pax_headers": {"SCHILY.xattr.user.root": "r"}},
            ),
            ("d", "dir", {"mode": 0o2700, "mtime": -77, "uid": 70000, "gid": 4_000_000_000}),
            ("d/f", "file", b"text", {"mode": 0o4711, "pax_headers": xattrs}),
            ("d/a-link", "link", "d/f"),
            ("d/z-link", "link", "d/f"),
            ("a-plain-link", "file", b"more"),
            ("z-plain-link", "link", "a-plain-link"),
            ("d/empty", "file", b""),
            ("d/capable", "file", b"c", {"pax_headers": capable}),
            ("d/acl", "file", b"a", {"mode": 0o674, "pax_headers": acl}),
            ("d/shared", "dir", {"pax_headers": {"SCHILY.xattr.user.dir": "d"}}),
            ("d/s", "sym", "../nowhere"),
            ("long", "sym", "x/" * 2000 + "x"),
            ("n" * 255, "file", os.urandom(5000)),
            ("p", "fifo", {"mode": 0o622}),
            ("tty", "chr", {"devmajor": 5, "devminor": 1 << 9 | 3}),
            ("big", "file", os.urandom(3 << 20)),
            *((f"many/{name}", "file", bytes([name % 256]) * name) for name in range(1500)),
            *((f"d/{name}", "file", b"first") for name in ("!", "-", ".hidden", "..more", "+")),
        )
    )
    assert both(store, layer, tree) == []


@mounts
def test_a_layer_of_nothing_but_whiteouts(store: Store, put: Put, tar: Tar, whatever_size: None) -> None:
    """Deletions are 0:0 devices, and what hides a directory's files is overlayfs's own attribute."""
    layer = put(
        tar(
            ("d", "dir"),
            ("d/.wh..wh..opq", "file", b""),
            ("e", "dir"),
            ("e/.wh.gone", "file", b""),
            (".wh.again", "file", b""),
            ("again", "dir"),
        )
    )

    def look(store: Store) -> object:
        top = unpack.unpack(store, layer, images=True)
        gone = (top / "e/gone").lstat()
        marks = [os.getxattr(top / name, "trusted.overlay.opaque") for name in ("d", "again")]
        return marks, stat.S_ISCHR(gone.st_mode), gone.st_rdev, os.listxattr(top / "e")

    assert inside(store.root, look) == ([b"y", b"y"], True, 0, [])


NAMES = st.text(
    st.characters(min_codepoint=1, max_codepoint=0x2FF, exclude_characters="/"), min_size=1, max_size=60
).filter(lambda name: name not in (".", "..") and not name.startswith(".wh."))


@mounts
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.lists(NAMES, min_size=1, max_size=3).map(tuple), st.binary(max_size=1500), max_size=40
    ),
    st.integers(-(1 << 31), (7 << 31) - 1),  # what ext4 can hold
)
def test_any_names(
    store: Store, put: Put, tree: Look, whatever_size: None, files: dict[tuple[str, ...], bytes], mtime: int
) -> None:
    """However names sort, and whatever blocks they end in, each file is found and is itself."""
    directories = {path[:end] for path in files for end in range(1, len(path))}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(directories | set(files)):
            info = tarfile.TarInfo("/".join(path))
            info.mtime = mtime
            info.type = tarfile.DIRTYPE if path in directories else tarfile.REGTYPE
            info.size = 0 if path in directories else len(files[path])
            archive.addfile(info, None if path in directories else io.BytesIO(files[path]))
    layer = put(out.getvalue())
    store.snapshots.remove(layer.diff_id)
    for snapshot in store.snapshots.list():
        store.snapshots.remove(snapshot.key)
    assert both(store, layer, tree) == []


@mounts
def test_what_the_kernel_refuses_becomes_a_directory(
    store: Store, put: Put, tar: Tar, whatever_size: None
) -> None:
    """An image that can't be mounted is replaced, and no further one is made."""
    layer, other = put(tar(("f", "file", b"1"))), put(tar(("g", "file", b"2")))

    def refused(store: Store) -> object:
        image.mount_image = no_mount
        first = unpack.unpack(store, layer, images=True)
        second = unpack.unpack(store, other, images=True)
        return first.is_dir(), second.is_dir(), (first / "f").read_bytes()

    assert inside(store.root, refused) == (True, True, b"1")
    assert {snapshot.path.suffix for snapshot in store.snapshots.list()} == {""}


@mounts
def test_a_store_on_an_overlay_has_directories(
    store: Store, put: Put, tar: Tar, whatever_size: None, tmp_path: Path
) -> None:
    """The kernel stacks no overlay on an image on an overlay."""
    data = tar(("f", "file", b"1"))
    for name in ("lower", "upper", "work", "there"):
        (tmp_path / name).mkdir()

    def on_overlay(_: Store) -> object:
        paths = (os.fspath(tmp_path / name) for name in ("lower", "upper", "work", "there"))
        lower, upper, work, there = paths
        with overlay(Overlay((lower,), upper, work), there), Store.open(Path(there) / "store") as inner:
            layer = put(data)
            digest = inner.blobs.put(data)
            path = unpack.unpack(inner, Layer(layer.descriptor, layer.diff_id), images=True)
            return (
                digest == layer.descriptor.digest,
                path.is_dir(),
                [s.path.suffix for s in inner.snapshots.list()],
            )

    assert inside(store.root, on_overlay) == (True, True, [""])


def no_mount(path: Path, target: Path) -> None:
    raise OSError(22, "Invalid argument")


@pytest.fixture
def made(store: Store, put: Put, tar: Tar, unmounted: None) -> Iterator[tuple[Layer, Path]]:
    layer = put(
        tar(("d", "dir"), ("d/f", "file", b"content" * 999), ("d/l", "link", "d/f"), ("s", "sym", "d"))
    )
    yield layer, unpack.unpack(store, layer, images=True)


def test_files_are_read_from_the_image(store: Store, made: tuple[Layer, Path]) -> None:
    """Without a mount, and without the blob."""
    layer, _ = made
    with View(store, [layer]) as view:
        store.blobs.path(layer.descriptor.digest).unlink()
        assert view.read(b"d/l") == b"content" * 999


@pytest.mark.parametrize("where", ["superblock", "tar", "inodes", "end"])
def test_every_damage_is_found(store: Store, made: tuple[Layer, Path], where: str) -> None:
    """One bit anywhere, or a file that ends too early; fsck drops the image and it is made again."""
    layer, path = made
    assert snapshot_problem(store, layer.diff_id, path) == ""
    data = bytearray(path.read_bytes())
    size = tar_size(bytes(data[:START]))
    assert size
    at = {"superblock": 1024, "tar": START + 600, "inodes": START + -(-size // 4096) * 4096 + 4}.get(where)
    if at is None:
        del data[-4096:]
    else:
        data[at] ^= 1
    path.write_bytes(data)
    assert snapshot_problem(store, layer.diff_id, path)
    problems = fsck(store, repair=True, check_snapshot=lambda s: snapshot_problem(store, s.key, s.path))
    assert [problem.kind for problem in problems] == ["snapshot"]
    again = unpack.unpack(store, layer, images=True)
    assert again != path and snapshot_problem(store, layer.diff_id, again) == ""


def test_after_a_reboot_it_is_read_before_it_is_used(
    store: Store, made: tuple[Layer, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What power failure may have taken is looked for; a whole image stays."""
    layer, path = made
    monkeypatch.setattr(store.snapshots, "_boot", "another")
    assert unpack.unpack(store, layer, images=True) == path
    monkeypatch.setattr(store.snapshots, "_boot", "a third")
    os.truncate(path, START)
    assert unpack.unpack(store, layer, images=True) != path


def test_prune_removes_it(store: Store, made: tuple[Layer, Path]) -> None:
    """As any snapshot that no image needs."""
    _, path = made
    assert path.exists()
    root = store.root
    store.close()
    with Store.open(root) as later:
        removed = prune(later, all=True).removed
        assert "snapshot" in {item.kind for item in removed}
    assert not path.exists()


def test_an_image_does_not_take_a_directorys_place(store: Store, put: Put, tar: Tar, unmounted: None) -> None:
    """A directory serves everybody."""
    layer = put(tar(("f", "file", b"x", {"uid": os.geteuid(), "gid": os.getegid()})))
    path = unpack.unpack(store, layer)
    assert path.is_dir()
    assert unpack.unpack(store, layer, images=True) == path


def test_a_sparse_file_needs_a_directory(store: Store, put: Put, tmp_path: Path, unmounted: None) -> None:
    """Its content is not in one piece in the tar."""
    with (tmp_path / "sparse").open("wb") as file:
        file.seek(40 << 20)
        file.write(b"end")
    command = ["tar", "-C", str(tmp_path), "-c", "--sparse", "--format=posix", "sparse"]
    layer = put(subprocess.run(command, check=True, capture_output=True).stdout)
    for _ in range(2):
        found = unpack.unpack(store, layer, images=True)
        assert found.is_dir() and (found / "sparse").stat().st_size == (40 << 20) + 3


def test_what_no_image_can_hold(store: Store, put: Put, tar: Tar, unmounted: None) -> None:
    """Names that are too long are refused in the same words as for a directory; odd device numbers do no harm."""
    layer = put(tar(("n" * 256, "file", b"")))
    with pytest.raises(StoreError, match="name too long"):
        unpack.unpack(store, layer, images=True)
    layer = put(tar(("c", "chr", {"devmajor": 0o7777777, "devminor": 0o7777777})))
    assert unpack.unpack(store, layer, images=True).suffix == ".erofs"


def test_limits_hold(store: Store, put: Put, tar: Tar, unmounted: None) -> None:
    """A bomb becomes no image, whether its index is known or not."""
    layer = put(tar(("f", "file", bytes(20 << 20))))
    for _ in range(2):
        with pytest.raises(HostileInputError, match="larger"):
            unpack.unpack(store, layer, images=True, limits=Limits(max_size=10 << 20))
        layer_index(store, layer, ())
    assert store.snapshots.list() == () and list((store.root / "snapshots").iterdir()) == []
