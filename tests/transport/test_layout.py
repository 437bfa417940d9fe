"""Layouts and docker-archives: what is saved loads again as the same image, and nothing else loads."""

import gzip
import io
import json
import lzma
import subprocess
import tarfile
from pathlib import Path

import pytest

from layersmith.dataclass import replace
from layersmith.errors import LayersmithError, NotFoundError, TransportError
from layersmith.image import SCRATCH, Image
from layersmith.layer.compress import Compression
from layersmith.oci import mediatype
from layersmith.oci.config import History
from layersmith.oci.descriptor import Descriptor, Layer
from layersmith.oci.digest import DiffID, digest_of
from layersmith.oci.manifest import Index, Manifest
from layersmith.oci.platform import Platform
from layersmith.oci.validate import validate_image
from layersmith.store import Store
from layersmith.store.fsck import fsck
from layersmith.transport import load, parse_output, save
from layersmith.transport.convert import recompress
from layersmith.transport.output import Output


@pytest.fixture
def other(tmp_path: Path):  # type: ignore[no-untyped-def]
    with Store.open(tmp_path / "other") as opened:
        yield opened


def files_in(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {info.name: archive.extractfile(info).read() for info in archive if info.isfile()}  # type: ignore[union-attr]


def write_tar(path: Path, files: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return path


@pytest.mark.parametrize("output", ["type=oci,dest={}", "type=oci,tar=false,dest={}"])
def test_what_is_saved_loads_as_the_same_image(
    store: Store, other: Store, image: Image, tmp_path: Path, output: str
) -> None:
    """The manifest digest survives the way through a layout, and so do both names."""
    descriptor = image.write(store)
    saved = save(
        store, descriptor, parse_output(output.format(tmp_path / "x")), names=["demo", "ghcr.io/a/b:1"]
    )
    assert saved == descriptor
    (loaded,) = load(other, tmp_path / "x")
    assert loaded.descriptor == descriptor.bare()
    assert loaded.names == ("demo:latest", "ghcr.io/a/b:1")
    assert other.refs.get("demo") == other.refs.get("ghcr.io/a/b:1") == loaded.descriptor
    assert fsck(other) == () and validate_image(other.blobs.read, loaded.descriptor) == []
    assert Image.read(other, loaded.descriptor) == image


def test_archives_are_the_same_each_time(store: Store, image: Image, tmp_path: Path) -> None:
    """No time, owner or order of this run is in them."""
    for kind in ("oci", "docker", "tar", "layers"):
        written = []
        for _ in range(2):
            out = io.BytesIO()
            out.isatty = lambda: False  # type: ignore[method-assign]
            if kind != "layers":
                save(store, image.write(store), Output(kind, "-"), names=["demo"], stdout=out)
                written.append(out.getvalue())
        assert written[:1] == written[1:]


@pytest.mark.parametrize("compress", [bytes, gzip.compress, lzma.compress])
def test_a_compressed_archive_from_a_stream(
    store: Store, other: Store, image: Image, tmp_path: Path, compress
) -> None:  # type: ignore[no-untyped-def]
    """`docker save | gzip | … load -` works for a pipe, which can't seek."""
    save(store, image.write(store), parse_output(f"type=docker,dest={tmp_path / 'x'}"), names=["demo:1"])

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size or -1, 1000))

    (loaded,) = load(other, Pipe(compress((tmp_path / "x").read_bytes())))
    assert loaded.names == ("demo:1",)
    assert Image.read(other, loaded.descriptor).config == image.config


def test_docker_archives_have_gzip_layers(store: Store, other: Store, image: Image, tmp_path: Path) -> None:
    """docker load before 23 knows no zstd; the config, hence the image ID, stays the same."""
    save(store, image.write(store), parse_output(f"type=docker,dest={tmp_path / 'x'}"), names=["demo"])
    files = files_in(tmp_path / "x")
    (entry,) = json.loads(files["manifest.json"])
    assert entry["RepoTags"] == ["demo:latest"]
    assert files[entry["Config"]] == image.config.to_json()
    for path, diff_id in zip(entry["Layers"], image.config.diff_ids, strict=True):
        assert digest_of(gzip.decompress(files[path])) == diff_id


def test_a_docker_archive_of_old_with_links(store: Store, other: Store, image: Image, tmp_path: Path) -> None:
    """Plain layers under their own names, layer.tar links, RepoTags null: as docker save wrote it for years."""
    plain = recompress(store, image, Compression("none"))
    layers = [store.blobs.read(layer.descriptor) for layer in plain.layers]
    config = image.config.to_json()
    files = {"abc.json": config, "one.tar": layers[0], "two/layer.tar": layers[1]}
    files["manifest.json"] = json.dumps(
        [
            {"Config": "abc.json", "RepoTags": ["a/b:c"], "Layers": ["one/layer.tar", "two/layer.tar"]},
            {"Config": "abc.json", "RepoTags": None, "Layers": ["one.tar", "./two/layer.tar"]},
        ]
    ).encode()
    path = write_tar(tmp_path / "x", files, {"one/layer.tar": "../one.tar"})
    named, unnamed = load(other, path)
    assert (named.names, unnamed.names) == (("a/b:c",), ())
    assert named.descriptor == unnamed.descriptor
    assert Image.read(other, named.descriptor).config == image.config


def test_loops_of_links_and_missing_layers(other: Store, tmp_path: Path) -> None:
    """A link that leads nowhere is a missing layer, not an endless loop."""
    config = replace(SCRATCH().config, diff_ids=(DiffID(digest_of(b"x")),)).to_json()
    manifest = json.dumps([{"Config": "c", "RepoTags": [], "Layers": ["l"]}]).encode()
    for links in ({}, {"l": "m", "m": "l"}, {"l": "/etc/passwd"}, {"l": "../../../etc/passwd"}):
        path = write_tar(tmp_path / "x", {"c": config, "manifest.json": manifest}, links)
        with pytest.raises(TransportError, match="missing"):
            load(other, path)
    assert other.refs.list() == ()


def test_a_directory_does_not_lead_outside(other: Store, tmp_path: Path) -> None:
    """Symlinks of a hostile layout stay in it."""
    layout = tmp_path / "layout"
    layout.mkdir()
    (tmp_path / "secret").write_text(json.dumps({"schemaVersion": 2, "manifests": []}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (layout / "index.json").symlink_to(tmp_path / "secret")
    with pytest.raises(TransportError, match="not an image"):
        load(other, layout)


def damaged(files: dict[str, bytes], name: str, data: bytes | None) -> dict[str, bytes]:
    return {key: value for key, value in files.items() if key != name} | (
        {} if data is None else {name: data}
    )


def test_every_damage_to_an_archive_is_found(
    store: Store, other: Store, image: Image, tmp_path: Path
) -> None:
    """A blob that is missing, cut or changed, one at a time: an error, and no name in the store."""
    save(store, image.write(store), parse_output(f"type=oci,dest={tmp_path / 'x'}"), names=["demo"])
    files = files_in(tmp_path / "x")
    number = 0
    for name, data in files.items():
        for broken in (None, data[:-1], bytes([data[0] ^ 1]) + data[1:], b""):
            path = write_tar(tmp_path / "y", damaged(files, name, broken))
            number += 1
            with Store.open(tmp_path / str(number)) as fresh:
                with pytest.raises(LayersmithError):
                    load(fresh, path)
                assert fresh.refs.list() == () and fsck(fresh) == ()
    load(other, write_tar(tmp_path / "y", files))
    assert other.refs.get("demo") is not None and fsck(other) == ()


def test_an_index_keeps_all_its_platforms(store: Store, other: Store, tmp_path: Path) -> None:
    """A multi-platform image goes through a layout with its attestations, also when one platform is not there."""
    children = []
    for architecture in ("amd64", "arm64"):
        data = architecture.encode() * 600
        store.blobs.put(data)
        layer = Layer(Descriptor.of(mediatype.OCI_LAYER, data), DiffID(digest_of(data)))
        children.append(SCRATCH(Platform("linux", architecture)).append(layer, History()).write(store))
    statement = Descriptor("application/vnd.in-toto+json", store.blobs.put(b"{}"), 2)
    empty = Descriptor(
        mediatype.OCI_CONFIG, store.blobs.put(SCRATCH().config.to_json()), len(SCRATCH().config.to_json())
    )
    data = Manifest(empty, (statement,)).to_json()
    attestation = Descriptor(
        mediatype.OCI_MANIFEST, store.blobs.put(data), len(data), platform=Platform("unknown", "unknown")
    )
    about = {"vnd.docker.reference.digest": children[0].digest}
    kind = {"vnd.docker.reference.type": "attestation-manifest"}
    children.append(attestation.annotated(**about, **kind))
    data = Index(tuple(children)).to_json()
    index = Descriptor(mediatype.OCI_INDEX, store.blobs.put(data), len(data))
    save(store, index, parse_output(f"type=oci,dest={tmp_path / 'x'}"), names=["demo"])
    (loaded,) = load(other, tmp_path / "x")
    assert loaded.descriptor == index
    for architecture in ("amd64", "arm64"):
        read = Image.read(other, index, Platform("linux", architecture))
        assert read.config.platform.architecture == architecture
    files = files_in(tmp_path / "x")
    partial = damaged(files, f"blobs/sha256/{children[1].digest[7:]}", None)
    with Store.open(tmp_path / "third") as third:
        load(third, write_tar(tmp_path / "y", partial))
        assert Image.read(third, index, Platform("linux", "amd64")).layers
        with pytest.raises(NotFoundError):
            Image.read(third, index, Platform("linux", "arm64"))
        assert fsck(third) == ()
        save(third, index, parse_output(f"type=oci,dest={tmp_path / 'z'}"))
    converted = save(store, index, parse_output(f"type=oci,compression=gzip,dest={tmp_path / 'g'}"))
    gzipped = Image.read(store, converted, Platform("linux", "arm64"))
    assert [layer.descriptor.media_type for layer in gzipped.layers] == [mediatype.OCI_LAYER_GZIP]
    first, _, stated = Index.from_json(store.blobs.read(converted)).manifests
    assert stated.annotation("vnd.docker.reference.digest") == first.digest != children[0].digest


def test_foreign_layers_may_be_missing(store: Store, other: Store, tmp_path: Path) -> None:
    """A layer that is only at its URLs does not keep an image from being loaded and saved."""
    foreign = Descriptor(
        mediatype.OCI_FOREIGN_LAYER + "+gzip", digest_of(b"foreign"), 7, urls=("https://example.com/layer",)
    )
    image = SCRATCH(Platform("linux", "amd64")).append(Layer(foreign, DiffID(digest_of(b"tar"))), History())
    descriptor = image.write(store)
    save(store, descriptor, parse_output(f"type=oci,dest={tmp_path / 'x'}"), names=["demo"])
    (loaded,) = load(other, tmp_path / "x")
    assert Image.read(other, loaded.descriptor).layers[0].descriptor == foreign


def test_exporting_into_a_layout_adds_to_it(store: Store, image: Image, tmp_path: Path) -> None:
    """Other names of the directory stay, the same name moves."""
    output = parse_output(f"type=oci,tar=false,dest={tmp_path / 'x'}")
    save(store, image.write(store), output, names=["one"])
    save(store, SCRATCH().append(None, History(created_by="x")).write(store), output, names=["two"])
    second = save(store, SCRATCH().write(store), output, names=["one"])
    entries = json.loads((tmp_path / "x" / "index.json").read_bytes())["manifests"]
    names = {entry["annotations"]["org.opencontainers.image.ref.name"]: entry["digest"] for entry in entries}
    assert names.keys() == {"one:latest", "two:latest"} and names["one:latest"] == second.digest


def test_names_are_understood_in_both_customs(
    store: Store, other: Store, image: Image, tmp_path: Path
) -> None:
    """ref.name is a whole name (skopeo, podman) or only a tag (umoci), and containerd has one of its own."""
    save(store, image.write(store), parse_output(f"type=oci,dest={tmp_path / 'x'}"))
    files = files_in(tmp_path / "x")
    (entry,) = json.loads(files["index.json"])["manifests"]
    for annotations, wanted in (
        ({"org.opencontainers.image.ref.name": "localhost/a:1"}, ("localhost/a:1",)),
        ({"org.opencontainers.image.ref.name": "demo"}, ("demo:latest",)),
        ({"org.opencontainers.image.ref.name": "latest"}, ("my-image:latest",)),
        (
            {"org.opencontainers.image.ref.name": "1", "io.containerd.image.name": "docker.io/library/a:1"},
            ("a:1",),
        ),
        ({"org.opencontainers.image.ref.name": "No Name!"}, ()),
        ({}, ()),
    ):
        index = {"schemaVersion": 2, "manifests": [entry | {"annotations": annotations}]}
        path = write_tar(tmp_path / "my-image.tar", files | {"index.json": json.dumps(index).encode()})
        assert load(other, path)[0].names == wanted
    assert load(other, path, name="chosen")[0].names == ("chosen",)
    with pytest.raises(NotFoundError, match="nothing"):
        load(other, path, only="nothing")


def test_one_image_of_a_layout(store: Store, other: Store, image: Image, tmp_path: Path) -> None:
    """By name, with or without tag, or by digest; and without a name in the store if nobody wants one."""
    output = parse_output(f"type=oci,tar=false,dest={tmp_path / 'x'}")
    first = save(store, image.write(store), output, names=["one"])
    save(store, SCRATCH().write(store), output, names=["two:2"])
    for only in ("one", "one:latest", first.digest):
        (loaded,) = load(other, tmp_path / "x", only=only, register=False)
        assert loaded.descriptor == first.bare()
    assert other.refs.list() == ()
    assert [loaded.names for loaded in load(other, tmp_path / "x")] == [("one:latest",), ("two:2",)]


@pytest.mark.parametrize("data", [b"", b"hello", bytes(1 << 16), b"\x1f\x8b\x08garbage"])
def test_what_is_no_image_is_an_error(other: Store, tmp_path: Path, data: bytes) -> None:
    """Other files are refused with a hint, whatever they are."""
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(TransportError):
        load(other, tmp_path / "x")
    with pytest.raises(TransportError):
        load(other, tmp_path / "none")


def test_recompressing_keeps_the_files(store: Store, image: Image) -> None:
    """DiffIDs stay, digests change, there and back; what already is so is left alone unless forced."""
    gzipped = recompress(store, image, Compression("gzip"))
    assert gzipped.config == image.config
    assert {layer.descriptor.media_type for layer in gzipped.layers} == {mediatype.OCI_LAYER_GZIP}
    assert recompress(store, gzipped, Compression("gzip")) is not None
    assert recompress(store, gzipped, Compression("gzip", 0)) == gzipped
    assert recompress(store, gzipped, Compression("gzip", 0), force=True).layers != gzipped.layers
    assert recompress(store, gzipped, Compression("zstd")) == image


def test_a_failed_export_leaves_no_file(store: Store, image: Image, tmp_path: Path) -> None:
    """A missing or damaged blob ends the export, and what was at the destination is still there."""
    descriptor = image.write(store)
    path = store.blobs.path(image.layers[1].descriptor.digest)
    path.write_bytes(b"X" + path.read_bytes()[1:])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old")
    for name in ("new", "old"):
        with pytest.raises(LayersmithError):
            save(store, descriptor, parse_output(f"type=oci,dest={tmp_path / 'out' / name}"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["old"]
    assert (tmp_path / "out" / "old").read_text() == "old"
    with pytest.raises(TransportError, match="directory"):
        save(store, descriptor, parse_output(f"type=oci,dest={tmp_path}"))
    with pytest.raises(TransportError, match="can't write"):
        save(store, descriptor, parse_output(f"type=oci,dest={tmp_path / 'no' / 'such'}"))


@pytest.mark.interop
@pytest.mark.needs_skopeo
def test_skopeo_reads_the_store_and_all_archives(store: Store, image: Image, tmp_path: Path) -> None:
    """The store's root by both names, layouts, archives; and on to a docker-archive that we load again."""
    descriptor = recompress(store, image, Compression("gzip")).write(store)
    store.refs.set("demo", descriptor)
    for kind in ("oci", "docker"):
        save(store, descriptor, parse_output(f"type={kind},dest={tmp_path / kind}"), names=["demo"])
    save(store, descriptor, parse_output(f"type=oci,tar=false,dest={tmp_path / 'layout'}"), names=["demo"])

    def skopeo(*arguments: object) -> str:
        result = subprocess.run(["skopeo", *map(str, arguments)], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        return result.stdout

    for source in (
        f"oci:{store.root}:demo",
        f"oci:{store.root}:demo:latest",
        f"oci-archive:{tmp_path / 'oci'}",
    ):
        assert json.loads(skopeo("inspect", source))["Digest"] == descriptor.digest
    assert json.loads(skopeo("inspect", "--config", f"docker-archive:{tmp_path / 'docker'}"))["rootfs"][
        "diff_ids"
    ] == list(image.config.diff_ids)
    for target in ("docker-archive:{}:demo:2", "oci-archive:{}:demo:2", "oci:{}:demo:2"):
        path = tmp_path / f"copied-{target.partition(':')[0]}"
        skopeo("copy", f"oci:{store.root}:demo", target.format(path))
        (loaded,) = load(store, path)
        assert loaded.names == ("demo:2",)
        assert Image.read(store, loaded.descriptor).config.diff_ids == image.config.diff_ids


@pytest.mark.interop
@pytest.mark.needs_umoci
def test_what_umoci_makes_loads(other: Store, tmp_path: Path) -> None:
    """A layout that umoci has made and configured."""
    layout = tmp_path / "layout"
    for command in (
        ["init", "--layout", layout],
        ["new", "--image", f"{layout}:v1"],
        ["config", "--image", f"{layout}:v1", "--config.env", "A=b", "--config.cmd", "sh"],
    ):
        subprocess.run(["umoci", *map(str, command)], check=True, capture_output=True)
    (loaded,) = load(other, layout)
    config = Image.read(other, loaded.descriptor).config
    assert "A=b" in config.env and config.cmd == ("sh",)
