"""ADD of URLs, and contexts from streams and URLs, with a fetch that needs no network."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from layersmith.errors import CopyError, UsageError
from layersmith.execute.contexts import directory_from_stream, directory_from_url
from layersmith.execute.copy import copy_inputs, copy_items, fetch_remote
from layersmith.execute.remote import url_name
from layersmith.ops import CopyOp, HttpSource


@dataclass
class Validators:
    etag: str
    last_modified: str = ""


@dataclass
class Got:
    path: Path
    size: int
    digest: str
    mtime: int
    validators: Validators


class FakeFetch:
    """`transport.fetch.fetch` from a dictionary; remembers what it was asked."""

    def __init__(self, bodies: dict[str, bytes], mtime: int = 1_000_000) -> None:
        self.bodies = bodies
        self.mtime = mtime
        self.asked: list[dict[str, Any]] = []

    def __call__(self, url: str, directory: Path, *, known: Any = None, **kwargs: Any) -> Got | None:
        etag = hashlib.sha256(self.bodies[url]).hexdigest()[:8]
        self.asked.append({"url": url, "etag": known and known.etag, **kwargs})
        if known is not None and known.etag == etag:
            return None
        path = directory / "fetch-1"
        path.write_bytes(self.bodies[url])
        digest = f"sha256:{hashlib.sha256(self.bodies[url]).hexdigest()}"
        return Got(path, len(self.bodies[url]), digest, self.mtime, Validators(etag))


URL = "https://example.com/dir/file%20name.txt?x=1"


def run(
    op: CopyOp, below: Any, scratch: Path, fetch: FakeFetch, **kwargs: Any
) -> dict[str, tuple[Any, bytes | None]]:
    remote = fetch_remote(op, fetch=fetch, scratch=scratch, **kwargs)
    items = {}
    for entry, content in copy_items(op, {}, remote, below, now=5):
        body = None
        if isinstance(content, int):
            with open(content, "rb", closefd=False) as file:
                body = file.read()
        elif content is not None and not isinstance(content, bytes):
            body = content.read(1 << 20)
        items[entry.path.decode()] = (entry, body)
    return items


def test_add_url(tmp_path: Path, make_below: Callable[..., Any]) -> None:
    """0600, root's, Last-Modified as time, named after the URL's path; flags apply."""
    fetch = FakeFetch({URL: b"body"})
    items = run(CopyOp((HttpSource(URL),), "/d/", add=True), make_below(), tmp_path / "a", fetch)
    entry, body = items["d/file name.txt"]
    assert (entry.mode, entry.uid, entry.gid, entry.mtime, body) == (0o600, 0, 0, 1_000_000, b"body")
    flags = {"chmod": "644", "chown": "3:4"}
    items = run(CopyOp((HttpSource(URL),), "/f", add=True, **flags), make_below(), tmp_path / "b", fetch)  # type: ignore[arg-type]
    assert (items["f"][0].mode, items["f"][0].uid, items["f"][0].gid) == (0o644, 3, 4)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://h/a/b.tar.gz", "b.tar.gz"),
        ("https://h/a/?q=x/y", "a"),
        ("https://h/", "__unnamed__"),
        ("https://h", "__unnamed__"),
        ("https://h/..", "__unnamed__"),
        ("https://h/%2e%2e", "__unnamed__"),
        ("https://h/a%2f..%2fb", "b"),
        ("https://h/x%00", "__unnamed__"),
    ],
)
def test_url_names(url: str, name: str) -> None:
    """The last part of the decoded path, and never one that leads elsewhere."""
    assert url_name(url) == name


def archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in (("Dockerfile", b"FROM scratch\n"), ("src/f", b"F")):
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime = len(data), 0o755, 1000
            tar.addfile(info, io.BytesIO(data))
        info = tarfile.TarInfo("link")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(info)
        info = tarfile.TarInfo("link/escaped")
        tar.addfile(info)
        info = tarfile.TarInfo("hard")
        info.type, info.linkname = tarfile.LNKTYPE, "src/f"
        tar.addfile(info)
    return buffer.getvalue()


def test_url_archives_are_unpacked_only_if_asked(tmp_path: Path, make_below: Callable[..., Any]) -> None:
    """--unpack=true."""
    url = "https://h/a.tgz"
    fetch = FakeFetch({url: archive()})
    plain = CopyOp((HttpSource(url),), "/d/", add=True)
    assert "d/a.tgz" in run(plain, make_below(), tmp_path / "a", fetch)
    unpacked = CopyOp((HttpSource(url),), "/d/", add=True, unpack=True)
    assert "d/src/f" in run(unpacked, make_below(), tmp_path / "b", fetch)


def test_url_key(tmp_path: Path) -> None:
    """Name, body and Last-Modified count."""
    op = CopyOp((HttpSource(URL),), "/d/", add=True)
    digests = set()
    for n, fetch in enumerate(
        (FakeFetch({URL: b"1"}), FakeFetch({URL: b"1"}), FakeFetch({URL: b"2"}), FakeFetch({URL: b"1"}, 7))
    ):
        remote = fetch_remote(op, fetch=fetch, scratch=tmp_path / str(n))
        digests.add(copy_inputs(op, {}, remote).digest)
    assert len(digests) == 3


def test_url_secrets_and_checksum_are_passed_on(tmp_path: Path, make_below: Callable[..., Any]) -> None:
    """A token for the host becomes its Authorization; with a checksum, nothing is fetched before it is needed."""
    fetch = FakeFetch({URL: b""})
    checksum = "sha256:" + "0" * 64
    op = CopyOp((HttpSource(URL, checksum),), "/d/", add=True)
    secrets = {"HTTP_AUTH_TOKEN_example.com": b"t0k\n"}.get
    remote = fetch_remote(op, fetch=fetch, scratch=tmp_path, secrets=secrets)
    assert copy_inputs(op, {}, remote, listed=True).paths == ((URL, f"url file name.txt {checksum}"),)
    assert fetch.asked == []
    list(copy_items(op, {}, remote, make_below(), now=5))
    list(copy_items(op, {}, remote, make_below(), now=5))
    headers = {"Authorization": "Bearer t0k"}
    assert fetch.asked == [{"url": URL, "etag": None, "checksum": checksum, "headers": headers}]


def test_url_not_modified(tmp_path: Path, make_below: Callable[..., Any]) -> None:
    """A server that says so saves the download, unless a changed step needs the body; a damaged memory is no harm."""
    op = CopyOp((HttpSource(URL),), "/d/", add=True)
    fetch = FakeFetch({URL: b"body"})
    memory = tmp_path / "memory"

    def again(name: str) -> Any:
        fetch.asked.clear()
        return fetch_remote(op, fetch=fetch, scratch=tmp_path / name, memory=memory)

    first = copy_inputs(op, {}, again("a")).digest
    remote = again("b")
    assert copy_inputs(op, {}, remote).digest == first
    assert not (tmp_path / "b/0/content").exists() and len(fetch.asked) == 1
    items = list(copy_items(op, {}, remote, make_below(), now=5))
    assert len(items) == 2 and len(fetch.asked) == 2
    fetch.bodies[URL] = b"other"
    assert copy_inputs(op, {}, again("c")).digest != first
    for record in memory.iterdir():
        record.write_text('{"etag": 1, "what": ')
    again("d")
    assert fetch.asked[0]["etag"] is None


def test_context_from_an_archive(tmp_path: Path) -> None:
    """From stdin or a URL: files, modes, times, links; nothing outside of it is touched."""
    for root in (
        directory_from_stream(io.BytesIO(archive()), tmp_path / "a" / "context"),
        directory_from_url(
            "https://h/c", tmp_path / "b" / "context", fetch=FakeFetch({"https://h/c": archive()})
        ),
    ):
        assert (root / "Dockerfile").read_text() == "FROM scratch\n"
        assert (root / "src/f").stat().st_mode & 0o777 == 0o755
        assert (root / "src/f").stat().st_mtime == 1000
        assert (root / "hard").stat().st_ino == (root / "src/f").stat().st_ino
        assert (root / "link").is_symlink()
        assert (root / "etc/escaped").is_file()
        assert [p.name for p in root.parent.iterdir()] == ["context"]


def test_context_from_a_lone_buildfile(tmp_path: Path) -> None:
    """What is no archive is the Buildfile of an empty context; nothing at all is an error."""
    root = directory_from_stream(io.BytesIO(b"FROM scratch\n"), tmp_path / "x")
    assert [(p.name, p.read_text()) for p in root.iterdir()] == [("Dockerfile", "FROM scratch\n")]
    with pytest.raises(UsageError, match="stdin is empty"):
        directory_from_stream(io.BytesIO(b""), tmp_path / "y")


def test_context_from_a_damaged_archive(tmp_path: Path) -> None:
    """Is an error of ours."""
    import os

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        info = tarfile.TarInfo("f")
        info.size = 100_000
        tar.addfile(info, io.BytesIO(os.urandom(100_000)))
    with pytest.raises(CopyError, match="can't unpack"):
        directory_from_stream(io.BytesIO(buffer.getvalue()[:-50_000]), tmp_path / "x")
