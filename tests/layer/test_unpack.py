"""Layers to snapshots: what ordinary layers become, and what hostile ones can't do."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from layersmith.errors import (
    DigestMismatchError,
    HostileInputError,
    LayersmithError,
    StoreError,
    TransportError,
)
from layersmith.layer.blob import Limits
from layersmith.layer.changes import changes
from layersmith.layer.compress import Compression
from layersmith.layer.unpack import lowerdirs, merged_root, prepare_upper
from layersmith.layer.unpack import unpack as unpack_strictly
from layersmith.layer.view import View
from layersmith.oci.descriptor import Layer
from layersmith.oci.digest import DiffID
from layersmith.store import Store

Put = Callable[..., Layer]
Tar = Callable[..., bytes]
OPAQUE = "user.overlay.opaque"

# Directories that a tar only implies belong to root, which an ordinary user can't make them.
unpack = partial(unpack_strictly, ignore_chown_errors=os.geteuid() != 0)


def owned(layer_tar: Tar) -> Tar:
    """Members that belong to whoever runs the test, so that none needs root."""

    def make(*members: tuple[object, ...], **options: int) -> bytes:
        mine = {"uid": os.geteuid(), "gid": os.getegid()}
        return layer_tar(*((*m, mine) for m in members), **options)

    return make


@pytest.fixture
def mine(tar: Tar) -> Tar:
    return owned(tar)


def test_an_ordinary_layer(store: Store, put: Put, mine: Tar) -> None:
    """Types, contents, modes, times, links and holes arrive as the tar has them; unpacking twice is once."""
    layer = put(
        mine(
            ("./", "dir", {"mode": 0o751, "mtime": 5}),
            ("d", "dir", {"mode": 0o500, "mtime": -77}),
            ("d/f", "file", b"text", {"mode": 0o4711, "mtime": 3}),
            ("d/hard", "link", "d/f"),
            ("d/s", "sym", "../nowhere", {"mtime": 9}),
            ("p", "fifo", {"mode": 0o622}),
            ("zeros", "file", bytes(3 << 20)),
            ("data", "file", os.urandom(3 << 20)),
        )
    )
    top = unpack(store, layer)
    assert (stat.S_IMODE(top.stat().st_mode), top.stat().st_mtime) == (0o751, 5)
    assert (stat.S_IMODE((top / "d").stat().st_mode), (top / "d").stat().st_mtime) == (0o500, -77)
    file = (top / "d/f").stat()
    assert (stat.S_IMODE(file.st_mode), file.st_mtime, file.st_nlink) == (0o4711, 3, 2)
    assert (top / "d/hard").stat().st_ino == file.st_ino
    assert (top / "d/s").readlink() == Path("../nowhere")
    assert (top / "d/s").lstat().st_mtime == 9
    assert stat.S_IMODE((top / "p").stat().st_mode) == 0o622
    assert (top / "zeros").read_bytes() == bytes(3 << 20)
    assert (top / "zeros").stat().st_blocks * 512 < 1 << 20
    assert unpack(store, layer) == top
    with View(store, [layer]) as view:
        assert view.read(b"data", limit=4 << 20) == (top / "data").read_bytes()
    os.chmod(top / "d", 0o700)


@pytest.mark.parametrize("compression", ["zstd", "gzip", "none"])
def test_damage_is_noticed_before_the_snapshot_exists(
    compression: str, store: Store, put: Put, mine: Tar
) -> None:
    """A blob with one wrong byte, or one that is not the image's DiffID, leaves neither snapshot nor index."""
    layer = put(mine(("f", "file", os.urandom(3 << 20))), Compression(compression))
    forged = Layer(layer.descriptor, DiffID("sha256:" + "0" * 64))
    with pytest.raises(DigestMismatchError, match="its image says"):
        unpack(store, forged)
    path = store.blobs.path(layer.descriptor.digest)
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)
    with pytest.raises((DigestMismatchError, TransportError)):
        unpack(store, layer)
    assert store.snapshots.list() == ()
    assert list(store.layers.iterdir()) == []


def test_limits(store: Store, put: Put, mine: Tar) -> None:
    """More bytes or entries than allowed are refused, also of a bomb that compresses to nothing."""
    layer = put(mine(("f", "file", bytes(20 << 20)), ("g", "dir")), Compression("zstd"))
    assert layer.descriptor.size < 1 << 16
    with pytest.raises(HostileInputError, match="larger"):
        unpack(store, layer, limits=Limits(max_size=10 << 20))
    with pytest.raises(HostileInputError, match="entries"):
        unpack(store, layer, limits=Limits(max_entries=1))
    unpack(store, layer)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A file outside of the store that hostile layers know the place of."""
    outside = tmp_path / "outside"
    outside.mkdir()
    path = outside / "canary"
    path.write_text("alive")
    return path


def state(path: Path) -> tuple[int, ...]:
    st = path.stat()
    return st.st_mode, st.st_uid, st.st_gid, st.st_nlink, st.st_size, st.st_mtime_ns, st.st_ctime_ns


def hostile(canary: Path) -> dict[str, list[tuple[object, ...]]]:
    outside = str(canary.parent)
    up = "../" * 20
    return {
        "dot dot": [(up + outside[1:] + "/canary", "file", b"dead")],
        "absolute": [(str(canary), "file", b"dead")],
        "through a link": [("l", "sym", outside), ("l/canary", "file", b"dead")],
        "through a relative link": [("l", "sym", up + outside[1:]), ("l/canary", "file", b"dead")],
        "through two links": [("a", "sym", outside), ("b", "sym", "a"), ("b/canary", "file", b"dead")],
        "through a link and dot dot": [("l", "sym", outside), ("l/../outside/canary", "file", b"dead")],
        "over a link": [("l", "sym", str(canary)), ("l", "file", b"dead")],
        "hard link outside": [("h", "link", str(canary)), ("h", "file", b"dead")],
        "hard link by dot dot": [("h", "link", up + str(canary)[1:]), ("h", "file", b"dead")],
        "hard link to a link": [("l", "sym", str(canary)), ("h", "link", "l"), ("h", "file", b"dead")],
        "hard link through a link": [("l", "sym", outside), ("h", "link", "l/canary")],
        "whiteout through a link": [("l", "sym", outside), ("l/.wh.canary", "file")],
        "opaque through a link": [("l", "sym", outside), ("l/.wh..wh..opq", "file")],
        "link loop": [("a", "sym", "b"), ("b", "sym", "a"), ("a/f", "file", b"x")],
        "link to itself": [("a", "sym", "a/a"), ("a/f", "file", b"x")],
        "setuid through a link": [("l", "sym", outside), ("l/canary", "file", b"dead", {"mode": 0o4755})],
        "directory over a link": [
            ("l", "sym", outside),
            ("l", "dir", {"mode": 0o777}),
            ("l/canary", "file", b"d"),
        ],
        "chmod through a link": [("l", "sym", outside), ("l/", "dir", {"mode": 0o777})],
    }


@pytest.mark.parametrize("name", hostile(Path("/x/y")))
def test_hostile_layers_stay_inside(name: str, store: Store, put: Put, mine: Tar, canary: Path) -> None:
    """Whether refused or taken: what is outside is as it was, and the same is true with layers below."""
    before = state(canary), state(canary.parent)
    layer = put(mine(*hostile(canary)[name]))
    base = put(mine(("l", "sym", str(canary.parent)), ("etc", "dir")))
    for below in ([], [base]):
        try:
            top = unpack(store, layer, below)
        except TransportError:
            continue
        assert top.is_dir()
        for path in top.rglob("*"):
            assert path.is_symlink() or path.resolve().is_relative_to(top)
    assert canary.read_text() == "alive"
    assert (state(canary), state(canary.parent)) == before
    assert os.listdir(canary.parent) == ["canary"]


REFUSED: dict[str, list[tuple[object, ...]]] = {
    "whiteout of dot dot": [("d", "dir"), ("d/.wh...", "file")],
    "whiteout of dot": [(".wh..", "file")],
    "whiteout of nothing": [(".wh.", "file")],
    "below a file": [("f", "file", b"x"), ("f/g", "file", b"y")],
    "below a file, later a directory": [("f", "file", b"x"), ("f/g/h", "dir")],
    "a directory, then a file": [("d", "dir"), ("d", "file", b"x")],
    "a file, then a directory": [("d", "file", b"x"), ("d", "dir")],
    "a link, then a directory": [("d", "sym", "e"), ("d", "dir")],
    "a directory, then a link": [("d", "dir"), ("d", "sym", "e")],
    "a root that is a file": [("./", "file", b"x"), (".", "sym", "/etc")],
    "a hard link to nothing": [("h", "link", "missing")],
    "a hard link to a directory": [("d", "dir"), ("h", "link", "d")],
    "a hard link to itself": [("h", "link", "h")],
    "a hard link to the root": [("h", "link", "/")],
    "too deep": [("d/" * 600 + "f", "file", b"x")],
    "a name of 300 bytes": [("n" * 300, "file", b"x")],
}


@pytest.mark.parametrize("name", REFUSED)
def test_senseless_layers_are_refused(name: str, store: Store, put: Put, mine: Tar) -> None:
    """Each raises one of our errors, alone and on other layers, and leaves no snapshot."""
    layer = put(mine(*REFUSED[name]))
    base = put(mine(("etc", "dir"), ("etc/passwd", "file", b"root")))
    for below in ([], [base]):
        with pytest.raises(LayersmithError):
            unpack(store, layer, below)
    assert store.snapshots.list() == ()
    with pytest.raises(LayersmithError):
        View(store, [layer]).read(b"h")


def test_duplicates_count_as_their_last(store: Store, put: Put, mine: Tar) -> None:
    """Of files, links and directories given twice the last one stays, in snapshot and view."""
    layer = put(
        mine(
            ("f", "file", b"old", {"mode": 0o600}),
            ("g", "sym", "f"),
            ("d", "dir", {"mode": 0o700}),
            ("d/x", "file", b"kept"),
            ("f", "file", b"new", {"mode": 0o640}),
            ("g", "file", b"was a link"),
            ("d", "dir", {"mode": 0o711}),
        )
    )
    top = unpack(store, layer)
    with View(store, [layer]) as view:
        for name, content, mode in (
            ("f", b"new", 0o640),
            ("g", b"was a link", 0o644),
            ("d/x", b"kept", 0o644),
        ):
            assert (top / name).read_bytes() == content == view.read(name.encode())
            entry = view.lookup(name.encode())
            assert entry is not None and entry.mode == mode == stat.S_IMODE((top / name).lstat().st_mode)
        directory = view.lookup(b"d")
        assert directory is not None and directory.mode == 0o711 == stat.S_IMODE((top / "d").stat().st_mode)


@pytest.mark.root
def test_whiteouts_become_devices_and_attributes(store: Store, put: Put, tar: Tar) -> None:
    """``.wh.x`` is a 0:0 device, ``.wh..wh..opq`` an attribute; a directory that comes with its whiteout is opaque."""
    layer = put(
        tar(
            ("gone", "dir"),
            ("gone/.wh.x", "file"),
            ("opaque", "dir"),
            ("opaque/.wh..wh..opq", "file"),
            (".wh.before", "file"),
            ("before", "dir"),
            ("after", "dir"),
            (".wh.after", "file"),
            (".wh.file", "file"),
            ("file", "file", b"x"),
            (".wh..wh.plnk", "dir"),
        )
    )
    top = unpack(store, layer)
    gone = (top / "gone/x").lstat()
    assert stat.S_ISCHR(gone.st_mode) and gone.st_rdev == 0
    for name in ("opaque", "before", "after"):
        assert os.getxattr(top / name, "trusted.overlay.opaque") == b"y"
    assert "trusted.overlay.opaque" not in os.listxattr(top / "gone")
    assert (top / "file").read_bytes() == b"x"
    assert sorted(os.listdir(top)) == ["after", "before", "file", "gone", "opaque"]


@pytest.mark.root
def test_an_opaque_root_hides_all_layers_below(store: Store, put: Put, tar: Tar) -> None:
    """overlayfs would merge roots all the same, so the layers below are left out of the stack."""
    base = put(tar(("old", "file", b"x")))
    layer = put(tar((".wh..wh..opq", "file"), ("new", "file", b"y")))
    (top,) = lowerdirs(store, [base, layer])
    assert os.listdir(top) == ["new"]
    with View(store, [base, layer]) as view:
        assert [entry.path for entry in view.walk()] == [b"", b"new"]


@pytest.mark.root
def test_overlay_attributes_of_a_layer_are_dropped(store: Store, put: Put, tar: Tar) -> None:
    """A layer can't redirect overlayfs to other files, nor keep attributes of the machine it was made on."""
    pax = {
        "SCHILY.xattr.trusted.overlay.redirect": "/etc",
        "SCHILY.xattr.user.overlay.redirect": "/etc",
        "SCHILY.xattr.trusted.overlay.opaque": "y",
        "SCHILY.xattr.security.selinux": "system_u",
        "SCHILY.xattr.user.kept": "yes",
    }
    layer = put(tar(("d", "dir", {"pax_headers": pax}), ("f", "file", b"", {"pax_headers": pax})))
    top = unpack(store, layer)
    for name in ("d", "f"):
        assert os.listxattr(top / name) == ["user.kept"]
    with View(store, [layer]) as view:
        entry = view.lookup(b"d")
        assert entry is not None and entry.xattrs == ((b"user.kept", b"yes"),)


@pytest.mark.root
def test_devices_and_owners(store: Store, put: Put, tar: Tar) -> None:
    """As root, devices, any owner and capabilities arrive; the capability survives the change of owner."""
    capability = b"\1\0\0\2\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
    pax = {"SCHILY.xattr.security.capability": capability.decode()}
    layer = put(
        tar(
            ("null", "chr", {"devmajor": 1, "devminor": 3, "mode": 0o666}),
            ("f", "file", b"x", {"uid": 1000, "gid": 4294967294, "mode": 0o755, "pax_headers": pax}),
        )
    )
    top = unpack(store, layer)
    assert (top / "null").stat().st_rdev == os.makedev(1, 3)
    st = (top / "f").stat()
    assert (st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)) == (1000, 4294967294, 0o755)
    assert os.getxattr(top / "f", "security.capability") == capability


@pytest.mark.skipif(os.geteuid() == 0, reason="root may give files to anybody")
def test_an_owner_that_can_not_be_set_is_explained(store: Store, put: Put, tar: Tar) -> None:
    """Without a range of ids the error says what is missing; it can be ignored."""
    layer = put(tar(("f", "file", b"x", {"uid": 12345})))
    with pytest.raises(StoreError, match="12345") as caught:
        unpack_strictly(store, layer)
    assert "/etc/subuid" in caught.value.hint
    assert (unpack(store, layer, ignore_chown_errors=True) / "f").read_bytes() == b"x"


# Layers that mean something else on each base


def test_implied_directories_take_what_lies_below(store: Store, put: Put, mine: Tar) -> None:
    """A tar without its directories' entries changes nothing of these directories, as if applied in order."""
    layer = put(mine(("opt/app/bin/tool", "file", b"x")))
    base = put(mine(("opt", "dir", {"mode": 0o711, "mtime": 7}), ("opt/app", "dir", {"mode": 0o750})))
    other = put(mine(("srv", "dir")))
    alone = unpack(store, layer)
    assert stat.S_IMODE((alone / "opt").stat().st_mode) == 0o755
    on_base = unpack(store, layer, [base])
    assert on_base != alone
    assert stat.S_IMODE((on_base / "opt").stat().st_mode) == 0o711
    assert (on_base / "opt").stat().st_mtime == 7
    assert stat.S_IMODE((on_base / "opt/app").stat().st_mode) == 0o750
    assert stat.S_IMODE((on_base / "opt/app/bin").stat().st_mode) == 0o755
    # A base that says nothing about these paths is like none; the same base in another image shares the snapshot.
    assert unpack(store, layer, [other]) == alone
    assert unpack(store, layer, [other, base]) == on_base
    with View(store, [base, layer]) as view:
        entry = view.lookup(b"opt")
        assert entry is not None and (entry.mode, entry.mtime) == (0o711, 7)


def test_writes_through_a_lower_layers_link_go_where_it_points(store: Store, put: Put, mine: Tar) -> None:
    """``lib/f`` on a base with ``lib -> usr/lib`` is ``usr/lib/f``, as containerd applies it."""
    base = put(mine(("usr", "dir"), ("usr/lib", "dir", {"mode": 0o711}), ("lib", "sym", "/usr/lib")))
    layer = put(mine(("lib/f", "file", b"x"), ("lib/d/g", "file", b"y")))
    top = unpack(store, layer, [base])
    assert (top / "usr/lib/f").read_bytes() == b"x"
    assert (top / "usr/lib/d/g").read_bytes() == b"y"
    assert not (top / "lib").exists()
    assert stat.S_IMODE((top / "usr/lib").stat().st_mode) == 0o711
    with View(store, [base, layer]) as view:
        assert view.read(b"/lib/d/g") == b"y"
        entry = view.lookup(b"lib")
        assert entry is not None and entry.link == b"/usr/lib"
    assert (unpack(store, layer) / "lib/f").read_bytes() == b"x"


def test_writes_through_an_own_link_stay_inside(store: Store, put: Put, mine: Tar) -> None:
    """A link of the layer's own is followed as in a chroot."""
    layer = put(mine(("a", "sym", "/../../b/./c"), ("a/f", "file", b"x"), ("b/c/g", "file", b"y")))
    top = unpack(store, layer)
    assert sorted(p.name for p in (top / "b/c").iterdir()) == ["f", "g"]


def test_hard_links_to_a_lower_layers_file(store: Store, put: Put, mine: Tar) -> None:
    """The file is copied up and linked, as overlayfs does; on a base without it the layer is refused."""
    base = put(mine(("f", "file", b"body", {"mode": 0o640, "mtime": 12})))
    layer = put(mine(("h", "link", "f"), ("i", "link", "h")))
    top = unpack(store, layer, [base])
    assert (top / "h").read_bytes() == b"body"
    assert (top / "h").stat().st_ino == (top / "f").stat().st_ino == (top / "i").stat().st_ino
    assert ((top / "f").stat().st_mtime, stat.S_IMODE((top / "f").stat().st_mode)) == (12, 0o640)
    with View(store, [base, layer]) as view:
        assert view.read(b"h") == view.read(b"i") == view.read(b"f") == b"body"
    for snapshot in store.snapshots.list():
        store.snapshots.remove(snapshot.key)
    with View(store, [base, layer]) as view:
        assert view.read(b"i") == b"body", "from the blobs alone"
    with pytest.raises(HostileInputError, match="hard link"):
        unpack(store, layer, [put(mine(("g", "file", b"")))])


def test_a_whiteout_in_a_directory_that_nobody_has_does_nothing(store: Store, put: Put, mine: Tar) -> None:
    """Removing what does not exist makes no directories."""
    layer = put(mine(("a/b/.wh.c", "file"), ("f", "file", b"x")))
    top = unpack(store, layer, [put(mine(("z", "dir")))])
    assert os.listdir(top) == ["f"]


def test_the_same_layer_twice_in_a_stack(store: Store, put: Put, mine: Tar) -> None:
    """Images repeat layers; one that depends on what lies below must not wait for itself."""
    layer = put(mine(("x/f", "file", b"x")))
    base = put(mine(("x", "dir", {"mode": 0o711})))
    paths = lowerdirs(store, [layer, base, layer], ignore_chown_errors=os.geteuid() != 0)
    assert len(paths) == 3
    assert stat.S_IMODE((paths[0] / "x").stat().st_mode) == 0o711


def test_old_tars(store: Store, put: Put, mine: Tar) -> None:
    """GNU's format with long names unpacks as PAX does."""
    name = "n" * 200 + "/" + "m" * 120
    layer = put(mine((name, "file", b"x"), ("l", "sym", "t" * 180), format=tarfile.GNU_FORMAT))
    top = unpack(store, layer)
    assert (top / name).read_bytes() == b"x"
    assert (top / "l").readlink() == Path("t" * 180)


@pytest.mark.root
def test_the_roots_attributes_go_up_the_stack(store: Store, put: Put, tar: Tar, tmp_path: Path) -> None:
    """The root is the topmost layer's that says something of it; an upper directory prepared so changes nothing."""
    base = put(tar(("./", "dir", {"mode": 0o711, "uid": 5, "mtime": 7}), ("a", "dir")))
    layer = put(tar(("b", "dir")))
    assert merged_root(store, []).mode == 0o755
    root = merged_root(store, [base, layer])
    assert (root.mode, root.uid, root.mtime) == (0o711, 5, 7)
    upper = tmp_path / "upper"
    upper.mkdir()
    prepare_upper(upper, root)
    assert merged_root(store, [base, upper]) == root
    with View(store, [base, layer]) as lower:
        assert list(changes(upper, lower=lower)) == []
        (upper / "new").touch()
        assert [entry.path for entry, _ in changes(upper, lower=lower)] == [b"new"]
        upper.chmod(0o700)
        assert [entry.path for entry, _ in changes(upper, lower=lower)] == [b"", b"new"]


@pytest.mark.skipif(not shutil.which("tar"), reason="needs GNU tar")
@pytest.mark.parametrize("version", ["0.0", "0.1", "1.0", "gnu"])
def test_sparse_files_keep_their_holes(version: str, store: Store, put: Put, tmp_path: Path) -> None:
    """GNU's sparse formats unpack to the same bytes with the holes as holes, and are read from the blob as well."""
    (tmp_path / "source").mkdir()
    with (tmp_path / "source" / "sparse").open("wb") as sparse:
        sparse.write(b"begin")
        sparse.seek(40 << 20)
        sparse.write(b"end")
        sparse.truncate(50 << 20)
    (tmp_path / "source" / "tail").write_bytes(b"after")
    options = ["--format=gnu"] if version == "gnu" else ["--format=posix", f"--sparse-version={version}"]
    command = ["tar", "-C", tmp_path / "source", "-c", "--sparse", *options, "sparse", "tail"]
    layer = put(subprocess.run(command, check=True, capture_output=True).stdout)
    with View(store, [layer]) as view:
        assert view.read(b"sparse", limit=1 << 30) == (tmp_path / "source" / "sparse").read_bytes()
        assert view.read(b"tail") == b"after"
    top = unpack(store, layer)
    assert (top / "sparse").read_bytes() == (tmp_path / "source" / "sparse").read_bytes()
    assert (top / "sparse").stat().st_blocks * 512 < 1 << 20


ROOTLESS = """
import os, subprocess, sys
from pathlib import Path
from layersmith.errors import StoreError
from layersmith.layer.changes import changes
from layersmith.layer.unpack import lowerdirs
from layersmith.layer.pack import pack
from layersmith.layer.view import View
from layersmith.layer.entry import *
from layersmith.store import Store
top = Path(sys.argv[1])
with Store.open(top / "store") as store:
    base = pack(store, [(Entry(b"d", DIR, 0o755), None), (Entry(b"d/old", REG, 0o644), None),
                        (Entry(b"gone", REG, 0o644), None), (Entry(b"null", CHR, 0o666, major=1, minor=3), None)]).layer
    layer = pack(store, [(Entry(b"d", DIR, 0o755), None), (opaque(b"d"), None), (whiteout(b"gone"), None),
                         (Entry(b"d/new", REG, 0o644, xattrs=((b"user.a", b"1"),)), None)]).layer
    layers = [base, layer]
    lowers = lowerdirs(store, layers, xattr_namespace="user")
    for name in ("upper", "work", "merged"):
        (top / name).mkdir()
    options = f"lowerdir={':'.join(map(str, lowers))},upperdir={top}/upper,workdir={top}/work,userxattr"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, top / "merged"], check=True)
    merged = top / "merged"
    print(sorted(os.listdir(merged)), sorted(os.listdir(merged / "d")), (merged / "null").lstat().st_size)
    (merged / "null").unlink()
    for path in (merged / "d").iterdir():
        path.unlink()
    (merged / "d").rmdir()
    (merged / "d").mkdir()
    with View(store, layers) as lower:
        print([entry.path.decode() for entry, _ in changes(top / "upper", lower=lower, xattr_namespace="user")])
    foreign = pack(store, [(Entry(b"f", REG, 0o644, uid=1234), None)]).layer
    try:
        lowerdirs(store, [foreign])
    except StoreError as error:
        print(error.message, "|", error.hint)
"""


def test_in_a_user_namespace_with_one_id(tmp_path: Path) -> None:
    """Whiteouts, opaque marks and upper directories work there under ``user.overlay``; owners are explained."""
    probe = ["unshare", "-Urm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    if not shutil.which("unshare") or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("needs unprivileged user namespaces")
    done = subprocess.run(
        ["unshare", "-Urm", sys.executable, "-B", "-c", ROOTLESS, tmp_path],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    merged, diff, refusal = done.stdout.splitlines()
    assert merged == "['d', 'null'] ['new'] 0"
    assert diff == "['.wh.null', 'd', 'd/.wh.new']"
    assert "1234:0" in refusal and "/etc/subuid" in refusal
