"""Fixtures for layers: a store, foreign tars made by Python's tarfile, and what a tree looks like."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from layersmith.layer.compress import Compression
from layersmith.oci.descriptor import Descriptor, Layer
from layersmith.oci.digest import DiffID
from layersmith.store import Store

PLAIN = Compression("none")
Put = Callable[[bytes], Layer]
Tree = dict[bytes, tuple[object, ...]]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def put(store: Store) -> Put:
    """Stores a tar's bytes as a layer, as a registry would bring it."""

    def put_tar(data: bytes, compression: Compression = PLAIN) -> Layer:
        compressor = compression.compressor()
        blob = bytes(compressor.compress(memoryview(data))) + compressor.flush()
        digest = store.blobs.put(blob)
        diff_id = DiffID("sha256:" + hashlib.sha256(data).hexdigest())
        return Layer(Descriptor(compression.media_type, digest, len(blob)), diff_id)

    return put_tar


@pytest.fixture
def tar() -> Callable[..., bytes]:
    """A tar by Python's tarfile: of (name, type, what) with ``what`` a content, a link target, or TarInfo fields."""

    def make(*members: tuple[object, ...], format: int = tarfile.PAX_FORMAT) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=format) as archive:
            for name, kind, *rest in members:
                info = tarfile.TarInfo(str(name))
                info.type = {"dir": b"5", "file": b"0", "sym": b"2", "link": b"1", "fifo": b"6", "chr": b"3"}[
                    str(kind)
                ]
                info.mode = 0o755 if kind == "dir" else 0o644
                content = None
                for what in rest:
                    if isinstance(what, bytes):
                        content, info.size = io.BytesIO(what), len(what)
                    elif isinstance(what, str):
                        info.linkname = what
                    elif isinstance(what, dict):
                        for key, value in what.items():
                            setattr(info, key, value)
                archive.addfile(info, content)
        return out.getvalue()

    return make


@pytest.fixture
def tree() -> Callable[[Path], Tree]:
    """All that a layer must keep of a directory's files, as a dict to compare."""

    def look(top: Path) -> Tree:
        found: Tree = {}
        first: dict[int, bytes] = {}
        root = os.fsencode(top)
        for where, directories, names in os.walk(root):
            for name in sorted(directories + names):
                path = os.path.join(where, name)
                st = os.lstat(path)
                body: object = None
                if stat.S_ISREG(st.st_mode):
                    with open(path, "rb") as file:
                        body = hashlib.sha256(file.read()).hexdigest()
                elif stat.S_ISLNK(st.st_mode):
                    body = os.readlink(path)
                relative = path[len(root) + 1 :]
                links = first.setdefault(st.st_ino, relative) if not stat.S_ISDIR(st.st_mode) else relative
                xattrs = tuple(
                    (key, os.getxattr(path, key, follow_symlinks=False))
                    for key in sorted(os.listxattr(path, follow_symlinks=False))
                    if ".overlay." not in key
                )
                found[relative] = (
                    oct(st.st_mode),
                    st.st_uid,
                    st.st_gid,
                    st.st_size if body is not None else 0,
                    st.st_rdev if not stat.S_ISDIR(st.st_mode) else 0,
                    st.st_mtime_ns // 10**9,
                    body,
                    links,
                    xattrs,
                )
        return found

    return look
