"""cp: docker's rules of what goes where, and hostile trees that would lead elsewhere."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from layersmith.containers.copy import Place, copy, read_tar_into, write_tar
from layersmith.errors import LayersmithError, NotFoundError, UsageError


class Tree:
    """A directory as the root of one side."""

    def __init__(self, path: Path, *, contained: bool) -> None:
        path.mkdir()
        self.path = path
        self.contained = contained
        self.fd = os.open(path, os.O_PATH | os.O_DIRECTORY)

    def __call__(self, path: str) -> Place:
        return Place(self.fd, path, path, contained=self.contained)


@pytest.fixture
def trees(tmp_path: Path) -> Iterator[tuple[Tree, Tree]]:
    """The host's side and the container's."""
    pair = Tree(tmp_path / "host", contained=False), Tree(tmp_path / "container", contained=True)
    yield pair
    for tree in pair:
        os.close(tree.fd)


def listing(root: Path) -> list[str]:
    return sorted(
        str(p.relative_to(root)) + ("/" if p.is_dir() and not p.is_symlink() else "") for p in root.rglob("*")
    )


def make(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
        else:
            path.write_text(name)


@pytest.mark.parametrize(
    ("source", "target", "there", "result"),
    [
        ("/f", "/new", [], ["new"]),
        ("/f", "/d", ["d/"], ["d/", "d/f"]),
        ("/f", "/d/", ["d/"], ["d/", "d/f"]),
        ("/f", "/d/g", ["d/"], ["d/", "d/g"]),
        ("/f", "/old", ["old"], ["old"]),
        ("/t", "/new", [], ["new/", "new/a", "new/s/", "new/s/b"]),
        ("/t", "/new/", [], ["new/", "new/a", "new/s/", "new/s/b"]),
        ("/t/.", "/new", [], ["new/", "new/a", "new/s/", "new/s/b"]),
        ("/t", "/d", ["d/"], ["d/", "d/t/", "d/t/a", "d/t/s/", "d/t/s/b"]),
        ("/t/", "/d", ["d/"], ["d/", "d/t/", "d/t/a", "d/t/s/", "d/t/s/b"]),
        ("/t/.", "/d", ["d/"], ["d/", "d/a", "d/s/", "d/s/b"]),
        ("/t/.", "/d", ["d/", "d/a", "d/own"], ["d/", "d/a", "d/own", "d/s/", "d/s/b"]),
        ("/t", "/", [], ["t/", "t/a", "t/s/", "t/s/b"]),
    ],
)
def test_where_things_go(
    trees: tuple[Tree, Tree], source: str, target: str, there: list[str], result: list[str]
) -> None:
    """The table of docker cp's documentation."""
    host, container = trees
    make(host.path, "f", "t/a", "t/s/b")
    make(container.path, *there)
    copy(host(source), container(target))
    assert listing(container.path) == result


@pytest.mark.parametrize(
    ("source", "target", "match"),
    [
        ("/none", "/x", "No such file"),
        ("/f", "/none/", "is no directory"),
        ("/f", "/none/x", "no directory to hold"),
        ("/t", "/old", "over the file"),
        ("/t/.", "/old", "over the file"),
        ("/f/", "/x", "Not a directory"),
        ("/blocked", "/", "there is a directory"),
        ("/t2", "/", "there is a file"),
    ],
)
def test_what_can_not_go(trees: tuple[Tree, Tree], source: str, target: str, match: str) -> None:
    host, container = trees
    make(host.path, "f", "t/a", "blocked", "t2/x")
    make(container.path, "old", "blocked/", "t2")
    with pytest.raises((NotFoundError, UsageError), match=match):
        copy(host(source), container(target))
    assert (container.path / "old").read_text() == "old"


def test_content_mode_time_and_links(trees: tuple[Tree, Tree]) -> None:
    """Files keep mode and mtime, symlinks stay symlinks, names of one file stay one file."""
    host, container = trees
    make(host.path, "t/a")
    a = host.path / "t/a"
    a.chmod(0o640)
    os.utime(a, (1_500_000_000, 1_500_000_000))
    (host.path / "t/b").hardlink_to(a)
    (host.path / "t/l").symlink_to("/etc/passwd")
    os.mkfifo(host.path / "t/p")
    (host.path / "t/p").chmod(0o620)
    (host.path / "t/ro").mkdir(mode=0o555)
    os.utime(host.path / "t", (1_400_000_000, 1_400_000_000))
    copy(host("/t"), container("/t"))
    t = container.path / "t"
    assert (t / "a").read_text() == "t/a"
    assert stat.S_IMODE((t / "a").stat().st_mode) == 0o640
    assert (t / "a").stat().st_mtime == 1_500_000_000
    assert t.stat().st_mtime == 1_400_000_000
    assert (t / "a").samefile(t / "b")
    assert os.readlink(t / "l") == "/etc/passwd"
    assert stat.S_ISFIFO((t / "p").stat().st_mode)
    assert stat.S_IMODE((t / "p").stat().st_mode) == 0o620
    assert stat.S_IMODE((t / "ro").stat().st_mode) == 0o555


def test_symlinks_at_the_ends(trees: tuple[Tree, Tree]) -> None:
    """The source's own symlink is copied unless followed; the target's is written through."""
    host, container = trees
    make(host.path, "f")
    (host.path / "l").symlink_to("f")
    make(container.path, "real", "d/")
    (container.path / "to").symlink_to("d")
    (container.path / "alias").symlink_to("/real")
    copy(host("/l"), container("/copied"))
    assert os.readlink(container.path / "copied") == "f"
    copy(host("/l"), container("/followed"), follow=True)
    assert (container.path / "followed").read_text() == "f"
    assert not (container.path / "followed").is_symlink()
    copy(host("/f"), container("/to"))
    assert (container.path / "d/f").read_text() == "f"
    copy(host("/f"), container("/alias"))
    assert (container.path / "alias").is_symlink()
    assert (container.path / "real").read_text() == "f"


def test_a_containers_symlinks_lead_nowhere_outside(trees: tuple[Tree, Tree], tmp_path: Path) -> None:
    """Neither reading nor writing through a symlink in a container touches a file of the host."""
    host, container = trees
    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / "secret").write_text("secret")
    make(host.path, "f", "t/a")
    up = "../" * 20
    for number, link in enumerate((str(canary), up + str(canary), str(canary / "secret"))):
        (container.path / f"l{number}").symlink_to(link)
    for number in range(2):
        with pytest.raises(LayersmithError):
            copy(container(f"/l{number}/secret"), host("/stolen"))
        with pytest.raises(LayersmithError):
            copy(host("/f"), container(f"/l{number}/new"))
        with pytest.raises(LayersmithError):
            copy(container(f"/l{number}"), host("/stolen"), follow=True)
    with pytest.raises(LayersmithError):
        copy(host("/f"), container("/l2"))
    copy(container("/l2"), host("/stolen"))
    assert os.readlink(host.path / "stolen") == str(canary / "secret")
    assert {p.name: p.read_text() for p in canary.iterdir()} == {"secret": "secret"}


def test_out_of_a_container_privileges_are_lost(trees: tuple[Tree, Tree]) -> None:
    """A set-id program of a container does not become one of the host's, unless -a says so; the other way it stays."""
    host, container = trees
    make(container.path, "prog")
    (container.path / "prog").chmod(0o6755)
    copy(container("/prog"), host("/plain"))
    copy(container("/prog"), host("/kept"), archive=True)
    copy(host("/kept"), container("/back"))
    modes = [
        stat.S_IMODE(p.stat().st_mode)
        for p in (host.path / "plain", host.path / "kept", container.path / "back")
    ]
    assert modes == [0o755, 0o6755, 0o6755]


def test_tar_out_and_in(trees: tuple[Tree, Tree]) -> None:
    """`cp x -` writes a tar that others read, `cp - x` reads one that others wrote, with parents it has no entry for."""
    host, container = trees
    make(container.path, "t/a", "t/s/b")
    stream = io.BytesIO()
    write_tar(container("/t"), stream)
    stream.seek(0)
    with tarfile.open(fileobj=stream) as tar:
        assert sorted(tar.getnames()) == ["t", "t/a", "t/s", "t/s/b"]
        member = tar.extractfile("t/a")
        assert member is not None and member.read() == b"t/a"
    stream.seek(0)
    read_tar_into(stream, host("/"))
    assert listing(host.path) == ["t/", "t/a", "t/s/", "t/s/b"]
    with pytest.raises(NotFoundError, match="is no directory"):
        read_tar_into(io.BytesIO(), host("/t/a"))


def test_a_hostile_tar_stays_inside(trees: tuple[Tree, Tree], tmp_path: Path) -> None:
    """A tar that makes a symlink to the outside and then writes through it writes inside, or is refused."""
    _, container = trees
    canary = tmp_path / "canary"
    canary.mkdir()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        link = tarfile.TarInfo("out")
        link.type, link.linkname = tarfile.SYMTYPE, str(canary)
        tar.addfile(link)
        for name in ("out/new", "../../canary/up", f"{canary}/absolute"):
            info = tarfile.TarInfo(name)
            info.size = 4
            tar.addfile(info, io.BytesIO(b"evil"))
    buffer.seek(0)
    with pytest.raises(LayersmithError):
        read_tar_into(buffer, container("/"))
    assert list(canary.iterdir()) == []
