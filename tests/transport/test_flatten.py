"""The merged tree: as a tar, as files, and as other tools see it."""

import io
import json
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from layersmith.errors import TransportError
from layersmith.image import Image
from layersmith.layer.entry import DIR, LNK, REG, SYM, Entry
from layersmith.layer.pack import pack
from layersmith.layer.tar import read_tar
from layersmith.layer.view import View
from layersmith.oci.validate import validate_image
from layersmith.store import Store
from layersmith.transport import parse_output, save
from layersmith.transport.directory import write_directory
from layersmith.transport.flatten import flatten
from layersmith.transport.squash import squash

Look = Callable[[Path], dict[str, tuple[object, ...]]]


def test_the_tree_is_the_views(store: Store, image: Image) -> None:
    """Each path of the merged view once, with its attributes and content; links come after what they name."""
    seen: dict[bytes, Entry] = {}
    contents: dict[bytes, bytes] = {}
    for entry, content in flatten(store, image.layers):
        assert entry.path not in seen
        if entry.kind == REG:
            assert content is not None and not isinstance(content, (int, bytes))
            contents[entry.path] = content.read(entry.size + 1)
        elif entry.kind == LNK:
            contents[entry.path] = contents[entry.link]
        seen[entry.path] = entry
    with View(store, image.layers) as view:
        wanted = {entry.path: entry for entry in view.walk() if entry.path}
        assert seen.keys() == wanted.keys()
        for path, entry in wanted.items():
            assert (seen[path].mode, seen[path].uid, seen[path].mtime) == (entry.mode, entry.uid, entry.mtime)
            if entry.kind == REG:
                assert contents[path] == b"".join(view.content(path))
    assert contents[b"first"] == b"no longer shared"
    assert contents[b"second"] == b"shared by two names", "its other name now is another layer's file"
    assert seen[b"second"].kind == REG and LNK in (seen[b"bin/tool"].kind, seen[b"bin/hard"].kind)
    assert b"gone" not in seen and b"hidden/old" not in seen and contents[b"hidden/new"] == b"new"


def test_layers_in_any_order_of_entries(store: Store, make_tar: Callable[..., bytes]) -> None:
    """A tar that is not sorted gives the same tree, and a file of many pieces comes whole."""
    large = bytes(range(256)) * 10_000
    members = (
        ("z", tarfile.REGTYPE, {"data": b"zzz"}),
        ("d/y", tarfile.REGTYPE, {"data": large}),
        ("d", tarfile.DIRTYPE, {"mode": 0o700}),
        ("a", tarfile.LNKTYPE, {"linkname": "z"}),
        ("d/x", tarfile.REGTYPE, {"data": b"xxx"}),
    )
    layer = pack(store, read_tar(io.BytesIO(make_tar(members)))).layer
    found = []
    for entry, content in flatten(store, [layer]):
        assert content is None or not isinstance(content, (int, bytes))
        found.append((entry.path, entry.kind, entry.link, None if content is None else content.read(1 << 23)))
    assert found == [
        (b"a", REG, b"", b"zzz"),
        (b"d", DIR, b"", None),
        (b"d/x", REG, b"", b"xxx"),
        (b"d/y", REG, b"", large),
        (b"z", LNK, b"a", None),
    ]


def test_nothing_is_unpacked_for_it(store: Store, image: Image) -> None:
    """Exporting a root file system makes no snapshot."""
    for _ in flatten(store, image.layers):
        pass
    assert store.snapshots.list() == ()


def test_squashed_and_flattened_again_it_is_the_same(store: Store, image: Image) -> None:
    """One layer of the merged tree has the files of the stack."""
    squashed = squash(store, image)
    assert len(squashed.layers) == 1 and len(squashed.config.history) == 3
    assert validate_image(store.blobs.read, squashed.write(store)) == []
    with View(store, image.layers) as before, View(store, squashed.layers) as after:
        strip = [entry._replace(link=b"") if entry.kind == REG else entry for entry in before.walk()]
        assert [entry._replace(link=b"") if entry.kind == REG else entry for entry in after.walk()] == strip


def test_the_tar_is_the_same_each_time_and_other_tools_read_it(
    store: Store, image: Image, tmp_path: Path
) -> None:
    """type=tar is deterministic, and Python's tarfile sees what we see."""
    descriptor = image.write(store)
    for name in ("one", "two"):
        save(store, descriptor, parse_output(f"type=tar,dest={tmp_path / name}"))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with tarfile.open(tmp_path / "one", errors="surrogateescape") as archive:
        members = {info.name: info for info in archive}
        assert members["kept"].mtime == -86400 and (members["kept"].uid, members["kept"].gid) == (1000, 1001)
        assert members["bin/tool"].mode == 0o4755
        assert members["caf\udce9"].isreg() and members["fifo"].isfifo()
        file = archive.extractfile("replaced/inside")
        assert file is not None and file.read() == b"inside"


@pytest.mark.root
@pytest.mark.interop
def test_files_and_tar_agree(store: Store, image: Image, tmp_path: Path, look: Look) -> None:
    """type=local makes what GNU tar makes of type=tar, to the last attribute."""
    descriptor = image.write(store)
    save(store, descriptor, parse_output(f"type=local,dest={tmp_path / 'local'}"))
    save(store, descriptor, parse_output(f"type=tar,dest={tmp_path / 'tar'}"))
    (tmp_path / "unpacked").mkdir()
    subprocess.run(
        ["tar", "-xpf", tmp_path / "tar", "--xattrs", "--xattrs-include=*", "-C", tmp_path / "unpacked"],
        check=True,
    )
    assert look(tmp_path / "local") == look(tmp_path / "unpacked")
    assert (tmp_path / "local" / "kept").stat().st_mtime == -86400


@pytest.mark.root
@pytest.mark.interop
@pytest.mark.needs_umoci
@pytest.mark.needs_skopeo
def test_umoci_unpacks_the_same_files(store: Store, image: Image, tmp_path: Path, look: Look) -> None:
    """Whiteouts, opaque directories and hard links mean to umoci what they mean to us."""
    store.refs.set("demo", image.write(store))
    layout, bundle = tmp_path / "layout", tmp_path / "bundle"
    gzipped = parse_output(f"type=oci,tar=false,compression=gzip,dest={layout}")
    save(store, store.refs.resolve("demo"), gzipped, names=["demo"])
    subprocess.run(
        ["umoci", "unpack", "--image", f"{layout}:demo:latest", bundle], check=True, capture_output=True
    )
    save(store, store.refs.resolve("demo"), parse_output(f"type=local,dest={tmp_path / 'local'}"))
    assert look(tmp_path / "local") == look(bundle / "rootfs")


def test_an_ordinary_user_gets_the_files(store: Store, image: Image, tmp_path: Path) -> None:
    """Whatever the process may not set is left out, the rest is there (as root this is all of it)."""
    root = tmp_path / "local"
    assert write_directory(root, flatten(store, image.layers)) == ()
    assert (root / "kept").read_bytes() == b"lower"
    assert (root / "bin" / "tool").stat().st_ino == (root / "bin" / "hard").stat().st_ino
    assert os.readlink(root / "link") == "../../etc/passwd"
    write_directory(root, flatten(store, image.layers))
    assert (root / "first").read_bytes() == b"no longer shared", "exporting again replaces"


def test_no_symlink_in_the_destination_is_followed(tmp_path: Path) -> None:
    """An image that left a link cannot make the next export write through it."""
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    (outside / "file").write_text("mine")
    write_directory(root, [(Entry(b"d", SYM, 0o777, link=os.fsencode(outside)), None)])
    write_directory(root, [(Entry(b"d", DIR, 0o755), None), (Entry(b"d/file", REG, 0o644, size=3), b"new")])
    assert (outside / "file").read_text() == "mine" and (root / "d" / "file").read_text() == "new"
    write_directory(root, [(Entry(b"l", SYM, 0o777, link=os.fsencode(outside / "file")), None)])
    write_directory(root, [(Entry(b"l", REG, 0o644, size=3), b"new")])
    assert (outside / "file").read_text() == "mine" and (root / "l").read_text() == "new"
    with pytest.raises(TransportError, match="there is a directory"):
        write_directory(root, [(Entry(b"d", SYM, 0o777, link=b"x"), None)])
    with pytest.raises(TransportError, match="l/file"):
        write_directory(root, [(Entry(b"l/file", REG), b"")])


def test_layers_are_exported_with_an_index(store: Store, image: Image, tmp_path: Path) -> None:
    """Each layer's blob as it is, and what made it."""
    descriptor = image.write(store)
    save(store, descriptor, parse_output(f"type=layers,dest={tmp_path / 'layers'}"))
    listed = json.loads((tmp_path / "layers" / "layers.json").read_bytes())
    assert [entry["createdBy"] for entry in listed] == ["step 0", "step 1"]
    for entry, layer in zip(listed, image.layers, strict=True):
        data = (tmp_path / "layers" / entry["file"]).read_bytes()
        assert data == store.blobs.read(layer.descriptor) and entry["diffID"] == layer.diff_id
    stream = io.BytesIO()
    stream.isatty = lambda: False  # type: ignore[method-assign]
    save(store, descriptor, parse_output("type=layers,dest=-"), stdout=stream)
    with tarfile.open(fileobj=io.BytesIO(stream.getvalue())) as archive:
        assert archive.getnames() == [*(entry["file"] for entry in listed), "layers.json"]
