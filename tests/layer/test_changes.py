"""Upper directories to layers: made by hand for every rule, and by a real overlay for all of them together."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from layersmith.errors import StepError
from layersmith.layer.changes import changes
from layersmith.layer.entry import DIR, LNK, REG, Entry
from layersmith.layer.pack import pack
from layersmith.layer.scan import scan
from layersmith.layer.unpack import lowerdirs
from layersmith.layer.view import View
from layersmith.oci.descriptor import Layer
from layersmith.store import Store

Tree = Callable[[Path], dict[bytes, tuple[object, ...]]]


def names(upper: Path, **options: object) -> list[bytes]:
    options.setdefault("lower", None)
    return [entry.path for entry, _ in changes(upper, **options)]  # type: ignore[arg-type]


@pytest.fixture
def upper(tmp_path: Path) -> Path:
    path = tmp_path / "upper"
    path.mkdir()
    if os.geteuid() != 0:
        pytest.skip("an upper directory made by hand belongs to root, as the root directory does")
    return path


@pytest.mark.root
def test_order_and_kinds(upper: Path) -> None:
    """Parents come first, names in byte order, whiteouts before their siblings, sockets never."""
    (upper / "b").mkdir()
    (upper / "b-c").write_text("")
    (upper / "b" / "z").write_text("z")
    (upper / os.fsdecode(b"\xff")).write_text("")
    (upper / "ü").symlink_to("b")
    os.mkfifo(upper / "b" / "fifo")
    os.mknod(upper / "b" / "y", 0o20000, 0)
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(upper)
        listener.bind("socket")
        os.chdir(here)
    found = [b"b", b"b/.wh.y", b"b/fifo", b"b/z", b"b-c", "ü".encode(), b"\xff"]
    assert names(upper) == found


@pytest.mark.root
def test_hard_links(upper: Path) -> None:
    """The first name in order carries the content, the others name it; links of the same inode from outside don't."""
    (upper / "d").mkdir()
    (upper / "d" / "z").write_text("body")
    os.link(upper / "d" / "z", upper / "a")
    os.link(upper / "d" / "z", upper.parent / "outside")
    (upper / "s").symlink_to("t")
    os.link(upper / "s", upper / "s2", follow_symlinks=False)
    entries = {entry.path: entry for entry, _ in changes(upper, lower=None)}
    assert (entries[b"a"].kind, entries[b"a"].size) == (REG, 4)
    assert (entries[b"d/z"].kind, entries[b"d/z"].link, entries[b"d/z"].size) == (LNK, b"a", 0)
    assert (entries[b"s2"].kind, entries[b"s2"].link) == (LNK, b"s")


@pytest.mark.root
def test_the_root_is_an_entry_only_if_changed(upper: Path, store: Store) -> None:
    """A new mode, owner or xattr of the root makes one, another mtime does not; the layer below decides what is new."""
    upper.chmod(0o755)
    os.utime(upper, (1, 1))
    assert names(upper) == []
    upper.chmod(0o700)
    assert names(upper) == [b""]
    base = pack(store, [(Entry(b"", DIR, 0o700), None)]).layer
    with View(store, [base]) as lower:
        assert names(upper, lower=lower) == []
        upper.chmod(0o755)
        assert names(upper, lower=lower) == [b""]


@pytest.mark.root
def test_xattrs(upper: Path) -> None:
    """Capabilities, ACLs and user.* are kept; trusted.*, overlayfs's own and the rest are not."""
    file = upper / "f"
    file.write_text("")
    os.setxattr(file, "user.kept", b"\0\xff")
    os.setxattr(file, "user.overlay.origin", b"x")
    os.setxattr(file, "trusted.mine", b"x")
    os.setxattr(file, "trusted.overlay.origin", b"x")
    os.setxattr(file, "security.capability", b"\1\0\0\2\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0")
    (entry,) = [entry for entry, _ in changes(upper, lower=None)]
    assert [name for name, _ in entry.xattrs] == [b"security.capability", b"user.kept"]


@pytest.mark.root
@pytest.mark.parametrize("what", ["redirect", "metacopy"])
@pytest.mark.parametrize("namespace", ["trusted", "user"])
def test_redirects_are_an_error(upper: Path, what: str, namespace: str) -> None:
    """Where overlayfs says that the content is elsewhere, there is no layer."""
    (upper / "d").mkdir()
    os.setxattr(upper / "d", f"{namespace}.overlay.{what}", b"/elsewhere")
    with pytest.raises(StepError, match=what):
        names(upper, xattr_namespace=namespace)


@pytest.mark.root
def test_a_real_whiteout_name_is_an_error(upper: Path) -> None:
    """A file called .wh.x can't be said in a layer."""
    (upper / "d").mkdir()
    (upper / "d" / ".wh.x").write_text("")
    with pytest.raises(StepError, match=r"d/\.wh\.x.*\.wh\."):
        names(upper)


@pytest.mark.root
def test_opaque_directories(upper: Path, store: Store) -> None:
    """Alone, ``.wh..wh..opq``; on known layers, a whiteout for each file that is hidden, at any depth."""
    base = [
        (Entry(b"d", DIR, 0o755), None),
        (Entry(b"d/gone", REG, 0o644), None),
        (Entry(b"d/kept", DIR, 0o755), None),
        (Entry(b"d/kept/hidden", REG, 0o644), None),
        (Entry(b"d/replaced", DIR, 0o755), None),
        (Entry(b"d/replaced/x", REG, 0o644), None),
    ]
    layer = pack(store, base).layer
    (upper / "d" / "kept").mkdir(parents=True)
    (upper / "d" / "replaced").write_text("a file now")
    os.mknod(upper / "not-below", 0o20000, 0)
    for namespace in ("trusted", "user"):
        os.setxattr(upper / "d", f"{namespace}.overlay.opaque", b"y")
        assert names(upper, xattr_namespace=namespace) == [
            b".wh.not-below", b"d", b"d/.wh..wh..opq", b"d/kept", b"d/replaced",
        ]  # fmt: skip
        with View(store, [layer]) as lower:
            assert names(upper, lower=lower, xattr_namespace=namespace) == [
                b"d", b"d/.wh.gone", b"d/kept", b"d/kept/.wh.hidden", b"d/replaced",
            ]  # fmt: skip
        os.removexattr(upper / "d", f"{namespace}.overlay.opaque")


@pytest.mark.root
def test_a_file_that_shrinks_is_an_error(upper: Path, store: Store) -> None:
    """Content that is gone when it is read neither becomes zeros nor a damaged layer; no blob is left."""
    (upper / "f").write_bytes(b"x" * 1000)

    def shrinking() -> Iterator[object]:
        for item in changes(upper, lower=None):
            (upper / "f").write_bytes(b"x" * 10)
            yield item

    with pytest.raises(StepError, match="changed while"):
        pack(store, shrinking())  # type: ignore[arg-type]
    assert list(store.blobs.list()) == []
    assert list(store.layers.iterdir()) == []


# With a real overlay


@contextmanager
def overlay(lowers: tuple[Path, ...], top: Path) -> Iterator[Path]:
    """A writable overlay; upper is ``top/upper``."""
    for name in ("upper", "work", "merged"):
        (top / name).mkdir(parents=True)
    options = (
        f"lowerdir={':'.join(map(str, lowers))},upperdir={top / 'upper'},workdir={top / 'work'},"
        "index=off,metacopy=off,redirect_dir=off"
    )
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, top / "merged"], check=True)
    try:
        yield top / "merged"
    finally:
        subprocess.run(["umount", top / "merged"], check=True)


def scramble(root: Path, rng: random.Random) -> None:
    """Random work on a file tree, of every kind that a step may do."""
    for number in range(60):
        found = [p for p in sorted(root.rglob("*")) if not p.is_symlink()]
        folders = [root, *(p for p in found if p.is_dir())]
        files = [p for p in found if p.is_file()]
        where = rng.choice(folders)
        new = where / f"n{rng.randrange(12)}"
        match rng.randrange(12):
            case 0 | 1:
                if not new.is_dir():
                    new.unlink(missing_ok=True)
                    new.write_bytes(rng.randbytes(rng.choice([0, 10, 5000])))
            case 2:
                if not os.path.lexists(new):
                    new.mkdir(rng.choice([0o755, 0o700, 0o1777]))
            case 3 if files:
                rng.choice(files).unlink()
            case 4 if len(folders) > 3:
                shutil.rmtree(rng.choice(folders[1:]))
            case 5 if len(folders) > 2:
                victim = rng.choice(folders[1:])
                shutil.rmtree(victim)
                victim.mkdir()
                (victim / "fresh").write_text(str(number))
            case 6 if files and not os.path.lexists(new):
                rng.choice(files).rename(new)
            case 7 if files and not os.path.lexists(new):
                os.link(rng.choice(files), new)
            case 8 if not os.path.lexists(new):
                new.symlink_to(rng.choice(["n1", "/n2/n3", "../nowhere"]))
            case 9 if found:
                victim = rng.choice(found)
                os.chown(victim, rng.randrange(3), rng.randrange(70000))
                victim.chmod(rng.choice([0o644, 0o4755, 0o2750]))
                if victim.is_file() or victim.is_dir():
                    os.setxattr(victim, "user.n", rng.randbytes(5))
            case 10 if not os.path.lexists(new):
                os.mkfifo(new)
            case 11 if files and not files[0].is_symlink():
                victim = rng.choice(files)
                victim.unlink()
                victim.mkdir()
    for path in [*root.rglob("*")]:
        os.utime(path, (rng.randrange(-99, 1 << 31),) * 2, follow_symlinks=False)


@pytest.mark.root
@pytest.mark.parametrize("seed", range(6))
def test_steps_on_a_real_overlay_round_trip(seed: int, store: Store, tree: Tree, tmp_path: Path) -> None:
    """After each of some random steps, unpacking the layers anew shows the files that the step saw.

    Hard links are compared by content only where a step links to a file of a layer below: overlayfs copies it up.
    """
    rng = random.Random(seed)
    layers: list[Layer] = []
    for step in range(5):
        with overlay(lowerdirs(store, layers) or (_empty(tmp_path),), tmp_path / f"step{step}") as merged:
            scramble(merged, rng)
            seen = tree(merged)
        with View(store, layers) as lower:
            layers.append(pack(store, changes(tmp_path / f"step{step}/upper", lower=lower)).layer)
        for blobs_only in (False, True):
            if blobs_only:
                for snapshot in store.snapshots.list():
                    store.snapshots.remove(snapshot.key)
            with overlay(lowerdirs(store, layers), tmp_path / f"again{step}{blobs_only}") as merged:
                assert tree(merged) == seen
        with View(store, layers) as view:
            assert {entry.path for entry in view.walk()} - {b""} == set(seen)
            for entry in view.walk():
                if entry.path:
                    assert (entry.uid, entry.gid, entry.mtime) == (
                        *seen[entry.path][1:3],
                        seen[entry.path][5],
                    )


@pytest.mark.root
def test_opaque_and_explicit_whiteouts_mean_the_same(store: Store, tree: Tree, tmp_path: Path) -> None:
    """The layer that knows what lies below and the one that doesn't give the same files."""
    rng = random.Random(77)
    base_dir = tmp_path / "base"
    base_dir.mkdir()
    scramble(base_dir, rng)
    base = pack(store, scan(base_dir)).layer
    with overlay(lowerdirs(store, [base]), tmp_path / "step") as merged:
        scramble(merged, rng)
        seen = tree(merged)
    with View(store, [base]) as lower:
        explicit = pack(store, changes(tmp_path / "step/upper", lower=lower)).layer
    by_mark = pack(store, changes(tmp_path / "step/upper", lower=None)).layer
    assert explicit.diff_id != by_mark.diff_id
    for number, layer in enumerate((explicit, by_mark)):
        with overlay(lowerdirs(store, [base, layer]), tmp_path / f"again{number}") as merged:
            assert tree(merged) == seen


def _empty(tmp_path: Path) -> Path:
    path = tmp_path / "empty"
    path.mkdir(exist_ok=True)
    return path
