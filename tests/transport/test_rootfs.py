"""Imports: any tar or directory becomes an image with the same files, and --change sets its config."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from layersmith.errors import TransportError, UsageError
from layersmith.image import Image
from layersmith.layer.entry import DIR, FIFO, REG
from layersmith.layer.view import View
from layersmith.oci.config import Healthcheck
from layersmith.oci.platform import Platform
from layersmith.oci.validate import validate_image
from layersmith.store import Store
from layersmith.transport import ImportOptions, import_rootfs, parse_output, save

MEMBERS = (
    ("./", tarfile.DIRTYPE, {"mode": 0o755}),
    ("./etc", tarfile.DIRTYPE, {"mode": 0o755}),
    ("./etc/passwd", tarfile.REGTYPE, {"data": b"root:x:0:0::/root:/bin/sh\n", "uid": 3, "gid": 4}),
    ("./a b", tarfile.REGTYPE, {"data": b"x", "mode": 0o4711, "mtime": 2_000_000_000}),
    ("./hard", tarfile.LNKTYPE, {"linkname": "./a b"}),
    ("./link", tarfile.SYMTYPE, {"linkname": "etc/passwd"}),
    ("./fifo", tarfile.FIFOTYPE, {}),
)
EPOCH = 1_700_000_000
MakeTar = Callable[..., bytes]


@pytest.mark.parametrize(
    "compress", [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.ZstdCompressor().compress]
)
@pytest.mark.parametrize("source", ["file", "stream"])
def test_any_compression_from_file_or_stream(
    store: Store, tmp_path: Path, make_tar: MakeTar, compress: Callable[[bytes], bytes], source: str
) -> None:
    """The image has the files, whatever they came in; names begin without ./."""
    data = compress(make_tar(MEMBERS))
    (tmp_path / "rootfs").write_bytes(data)
    options = ImportOptions(epoch=EPOCH, platform=Platform("linux", "arm64"))
    descriptor = import_rootfs(store, tmp_path / "rootfs" if source == "file" else io.BytesIO(data), options)
    assert validate_image(store.blobs.read, descriptor) == []
    image = Image.read(store, descriptor)
    assert str(image.config.platform) == "linux/arm64" and image.config.created == "2023-11-14T22:13:20Z"
    with View(store, image.layers) as view:
        entries = {entry.path: entry for entry in view.walk()}
        assert entries.keys() == {b"", b"etc", b"etc/passwd", b"a b", b"hard", b"link", b"fifo"}
        assert (entries[b"etc/passwd"].uid, entries[b"etc/passwd"].gid) == (3, 4)
        assert (entries[b"a b"].mode, entries[b"a b"].mtime) == (0o4711, EPOCH), "later times are clamped"
        assert entries[b"hard"].kind == REG and b"".join(view.content(b"hard")) == b"x"
        assert entries[b"fifo"].kind == FIFO and view.read(b"link").startswith(b"root:")


def test_a_directory(store: Store, tmp_path: Path) -> None:
    """Files, links and modes of a directory; exporting gives them back."""
    top = tmp_path / "top"
    (top / "sub").mkdir(parents=True)
    (top / "sub" / "file").write_bytes(b"content")
    (top / "sub" / "other").hardlink_to(top / "sub" / "file")
    (top / "link").symlink_to("sub/file")
    (top / "sub").chmod(0o710)
    image = Image.read(store, import_rootfs(store, top))
    with View(store, image.layers) as view:
        sub = view.lookup(b"sub")
        assert sub is not None and (sub.kind, sub.mode) == (DIR, 0o710)
        assert view.read(b"link") == b"content"
    save(store, image.write(store), parse_output(f"type=local,dest={tmp_path / 'out'}"))
    assert (tmp_path / "out/sub/file").stat().st_ino == (tmp_path / "out/sub/other").stat().st_ino


def test_the_same_tar_gives_the_same_image(store: Store, tmp_path: Path, make_tar: MakeTar) -> None:
    """With an epoch, nothing of the run is in the image; without one, only its time is."""
    data = make_tar(MEMBERS)
    options = ImportOptions(epoch=EPOCH)
    with Store.open(tmp_path / "other") as other:
        assert import_rootfs(store, io.BytesIO(data), options) == import_rootfs(
            other, io.BytesIO(data), options
        )
    now = Image.read(store, import_rootfs(store, io.BytesIO(data))).config.created
    assert now is not None and now > "2024"


def test_only_portable_xattrs_are_kept(store: Store, make_tar: MakeTar) -> None:
    """What only this machine understands stays here."""
    names = {
        "user.note": True,
        "user.overlay.opaque": False,
        "trusted.overlay.opaque": False,
        "security.selinux": False,
        "security.capability": True,
        "system.posix_acl_access": True,
    }
    headers = {f"SCHILY.xattr.{name}": "x" for name in names}
    data = make_tar((("f", tarfile.REGTYPE, {"pax_headers": headers}),))
    with View(store, Image.read(store, import_rootfs(store, io.BytesIO(data))).layers) as view:
        entry = view.lookup(b"f")
        assert entry is not None
        assert {os.fsdecode(name) for name, _ in entry.xattrs} == {
            name for name, kept in names.items() if kept
        }


def test_whiteouts_are_no_files(store: Store, make_tar: MakeTar) -> None:
    """A root file system can't have names that a layer takes for something else."""
    with pytest.raises(TransportError, match=r"\.wh\.x"):
        import_rootfs(store, io.BytesIO(make_tar((("d/.wh.x", tarfile.REGTYPE, {}),))))


@pytest.mark.parametrize(
    "data", [b"", b"no tar at all" * 100, gzip.compress(b"x" * 2000, mtime=0), bytes(10240)]
)
def test_what_is_no_tar_is_refused(store: Store, tmp_path: Path, data: bytes) -> None:
    """Nothing is stored, and the error names the file."""
    (tmp_path / "rootfs").write_bytes(data)
    with pytest.raises(TransportError, match="rootfs"):
        import_rootfs(store, tmp_path / "rootfs")
    with pytest.raises(TransportError, match="can't read"):
        import_rootfs(store, tmp_path / "none")
    assert list(store.blobs.list()) == []


def test_a_tar_that_is_cut_short_is_refused(store: Store, make_tar: MakeTar) -> None:
    """Half a download is no image."""
    whole = make_tar((("f", tarfile.REGTYPE, {"data": bytes(range(256)) * 400}),))
    for data in (whole[:20_000], gzip.compress(whole, mtime=0)[:-20]):
        with pytest.raises(TransportError):
            import_rootfs(store, io.BytesIO(data))
    assert list(store.blobs.list()) == []


def changed(store: Store, make_tar: MakeTar, *changes: str):  # type: ignore[no-untyped-def]
    options = ImportOptions(changes=changes, message="mine")
    return Image.read(store, import_rootfs(store, io.BytesIO(make_tar(MEMBERS)), options)).config


def test_changes(store: Store, make_tar: MakeTar) -> None:
    """Every instruction that docker import takes, with variables, in order."""
    config = changed(
        store,
        make_tar,
        "ENV A=1 B=2",
        "ENV PATH=/x:$A B=3",
        "CMD echo $A",
        'ENTRYPOINT ["/init", "-x"]',
        "EXPOSE 80 53/udp",
        "LABEL b=2 a=$B",
        "VOLUME /data",
        "USER me:us",
        "WORKDIR /app",
        "WORKDIR sub",
        "STOPSIGNAL SIGINT",
        "ONBUILD RUN make",
        "HEALTHCHECK --retries=2 --interval=3s CMD true",
    )
    assert config.env == ("A=1", "B=3", "PATH=/x:1")
    assert config.cmd == ("/bin/sh", "-c", "echo $A") and config.entrypoint == ("/init", "-x")
    assert config.exposed_ports == ("53/udp", "80/tcp") and config.labels == (("a", "3"), ("b", "2"))
    assert (config.volumes, config.user, config.working_dir) == (("/data",), "me:us", "/app/sub")
    assert (config.stop_signal, config.on_build) == ("SIGINT", ("RUN make",))
    assert config.healthcheck == Healthcheck(("CMD-SHELL", "true"), interval_ns=3_000_000_000, retries=2)
    assert [entry.comment for entry in config.history] == ["mine"]


@pytest.mark.parametrize("change", ["RUN true", "COPY a b", "FROM x", "NONSENSE", "EXPOSE x", "ENV"])
def test_changes_that_make_no_sense(store: Store, make_tar: MakeTar, change: str) -> None:
    """They are refused before anything is stored."""
    with pytest.raises(UsageError, match="--change"):
        changed(store, make_tar, change)
    assert list(store.blobs.list()) == []
