"""An image whose layers have everything that is hard to carry over, made without mounts, and how to look at trees."""

import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from layersmith.image import SCRATCH, Image
from layersmith.layer.pack import pack
from layersmith.layer.tar import read_tar
from layersmith.oci.config import History
from layersmith.oci.platform import Platform
from layersmith.store import Store

LONG = "n" * 150 + "/" + "m" * 150
Member = tuple[str, bytes, dict[str, object]]


def member(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> Member:
    return name, kind, fields


LAYERS: tuple[tuple[Member, ...], ...] = (
    (
        member("bin", tarfile.DIRTYPE, mode=0o755),
        member("bin/tool", data=b"tool" * 1000, mode=0o4755, pax_headers={"SCHILY.xattr.user.note": "x"}),
        member("bin/hard", tarfile.LNKTYPE, linkname="bin/tool"),
        member("gone", tarfile.DIRTYPE, mode=0o755),
        member("gone/file", data=b"hidden by a whiteout"),
        member("hidden", tarfile.DIRTYPE, mode=0o755),
        member("hidden/old", data=b"hidden by an opaque directory"),
        member("replaced", data=b"a file, later a directory"),
        member("kept", data=b"lower", uid=1000, gid=1001, mtime=-86400),
        member("first", data=b"shared by two names"),
        member("second", tarfile.LNKTYPE, linkname="first"),
        member("link", tarfile.SYMTYPE, linkname="../../etc/passwd"),
        member("fifo", tarfile.FIFOTYPE, mode=0o600),
        member(LONG.partition("/")[0], tarfile.DIRTYPE, mode=0o700),
        member(LONG, data=b"long"),
        member("caf\udce9", data=b"not UTF-8"),
    ),
    (
        member(".wh.gone"),
        member("hidden", tarfile.DIRTYPE, mode=0o711),
        member("hidden/.wh..wh..opq"),
        member("hidden/new", data=b"new"),
        member("replaced", tarfile.DIRTYPE, mode=0o755),
        member("replaced/inside", data=b"inside"),
        member("first", data=b"no longer shared"),
        member("empty", data=b""),
    ),
)


def tar_bytes(members: tuple[Member, ...]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape") as archive:
        for name, kind, fields in members:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.mtime = kind, 0o644, 1_600_000_000
            data = b""
            for key, value in fields.items():
                if key == "data":
                    assert isinstance(value, bytes)
                    data = value
                else:
                    setattr(info, key, value)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def make_tar() -> Callable[[tuple[Member, ...]], bytes]:
    """A tar by Python's tarfile of (name, type, fields), ``data`` among them."""
    return tar_bytes


@pytest.fixture
def image(store: Store) -> Image:
    """Two layers, with whiteouts, an opaque directory, hard links and strange names."""
    made = SCRATCH(Platform("linux", "amd64"))
    for number, members in enumerate(LAYERS):
        packed = pack(store, read_tar(io.BytesIO(tar_bytes(members))))
        made = made.append(packed.layer, History(created="2024-01-01T00:00:00Z", created_by=f"step {number}"))
    return made


@pytest.fixture
def look() -> Callable[[Path], dict[str, tuple[object, ...]]]:
    """A tree as comparable values: type, mode, owner, mtime, content, link, device, hard-link group, xattrs."""

    def look_at(root: Path) -> dict[str, tuple[object, ...]]:
        found: dict[str, tuple[object, ...]] = {}
        groups: dict[int, str] = {}
        for directory, subdirectories, files in os.walk(root):
            for name in sorted((*subdirectories, *files)):
                path = os.path.join(directory, name)
                relative = os.path.relpath(path, root)
                status = os.lstat(path)
                kind = stat.S_IFMT(status.st_mode)
                content: object = None
                if kind == stat.S_IFREG:
                    content = Path(path).read_bytes()
                elif kind == stat.S_IFLNK:
                    content = os.readlink(path)
                group = groups.setdefault(status.st_ino, relative) if kind == stat.S_IFREG else None
                xattrs = {
                    key: os.getxattr(path, key, follow_symlinks=False)
                    for key in os.listxattr(path, follow_symlinks=False)
                }
                found[relative] = (
                    *(kind, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid),
                    *(int(status.st_mtime // 1), status.st_rdev, content, group, sorted(xattrs.items())),
                )
        return found

    return look_at
