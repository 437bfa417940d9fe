"""Where a build's image goes: outputs, names, squashing, annotations, and the files that tell of it."""

from __future__ import annotations

import json
import random
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from faulty_line import FaultyLine
from program import Layersmith
from registries import HTPASSWD, PASSWORD, USER, served

pytestmark = pytest.mark.root

BUILDFILE = """\
FROM base
RUN mkdir /a /b && echo one >/a/one && echo two >/a/two && ln /a/one /b/link
RUN rm /a/two && rm -r /b && echo three >/a/three && rm /bin/wc && ln /bin/cat /bin/tac
CMD ["cat", "/a/one", "/a/three"]
"""


@pytest.fixture
def built(layersmith: Layersmith, base: str, context: Path) -> Layersmith:
    (context / "Buildfile").write_text(BUILDFILE)
    return layersmith


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    with served(tmp_path / "registry") as host:
        yield host


def manifest(layout: Path, number: int = 0) -> tuple[dict, dict]:  # type: ignore[type-arg]
    """An entry of a layout's index, and the document that it describes."""
    entry = json.loads((layout / "index.json").read_text())["manifests"][number]
    return entry, json.loads((layout / "blobs/sha256" / entry["digest"][7:]).read_text())


def paths(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*")}


@pytest.mark.parametrize("squash", ["--squash", "--squash-all"])
def test_squash_keeps_the_files(built: Layersmith, context: Path, tmp_path: Path, squash: str) -> None:
    """One layer for those of the build, or for all; the tree is the same, hard links and removed files as well."""
    built("build", "-t", "plain", "-o", tmp_path / "plain", context)
    built("build", squash, "-t", "squashed", "-o", f"type=oci,tar=false,dest={tmp_path / 'layout'}", context)
    built("export", "squashed", "-o", f"type=local,dest={tmp_path / 'squashed'}")
    assert paths(tmp_path / "squashed") == paths(tmp_path / "plain")
    assert not (tmp_path / "squashed/bin/wc").exists() and not (tmp_path / "squashed/b").exists()
    assert len(manifest(tmp_path / "layout")[1]["layers"]) == (2 if squash == "--squash" else 1)
    assert built("run", "--rm", "--network=none", "squashed").stdout == "one\nthree\n"
    assert built("fsck").stdout == "" or "damaged" not in built("fsck").stdout


def test_several_outputs_at_once(built: Layersmith, context: Path, tmp_path: Path) -> None:
    """Each in its own form, from one build."""
    built(
        *("build", "-t", "web:1", "-o", f"type=oci,dest={tmp_path / 'oci.tar'},compression=gzip"),
        *(
            "-o",
            f"type=docker,dest={tmp_path / 'docker.tar'}",
            "-o",
            f"type=tar,dest={tmp_path / 'root.tar'}",
        ),
        *("-o", tmp_path / "root", "-o", f"type=layers,dest={tmp_path / 'layers'}", context),
    )
    with tarfile.open(tmp_path / "root.tar") as archive:
        assert "a/three" in archive.getnames() and "a/two" not in archive.getnames()
    assert (tmp_path / "root/a/one").read_text() == "one\n"
    assert len(json.loads((tmp_path / "layers/layers.json").read_text())) == 3
    for name in ("oci.tar", "docker.tar"):
        other = built.with_store(tmp_path / name.removesuffix(".tar"))
        other("load", tmp_path / name)
        assert other("run", "--rm", "--network=none", "web:1").stdout == "one\nthree\n"
    both = built("build", "-o", "-", "-o", "type=oci", context, status=2)
    assert "standard output" in both.stderr


def test_annotations_and_what_is_told_of_the_image(built: Layersmith, context: Path, tmp_path: Path) -> None:
    """On the manifest and on its descriptor; the metadata and the digest are those of what was written."""
    layout = tmp_path / "layout"
    built(
        *(
            "build",
            "-t",
            "web:1",
            "--annotation",
            "org.example.a=b",
            "--annotation",
            "manifest-descriptor:c=d",
        ),
        *("-o", f"type=oci,tar=false,dest={layout},annotation.e=f"),
        *("--metadata-file", tmp_path / "metadata.json", "--iidfile", tmp_path / "iid", context),
    )
    entry, document = manifest(layout)
    assert document["annotations"] == {"org.example.a": "b", "e": "f"}
    assert entry["annotations"]["c"] == "d"
    metadata = json.loads((tmp_path / "metadata.json").read_text())
    assert metadata["containerimage.digest"] == entry["digest"] == (tmp_path / "iid").read_text()
    assert metadata["containerimage.config.digest"] == document["config"]["digest"]
    assert metadata["image.name"] == "docker.io/library/web:1"
    refused = built("build", "--annotation", "index:a=b", context, status=2)
    assert "for an index" in refused.stderr


def test_platforms_of_an_index(layersmith: Layersmith, context: Path, tmp_path: Path) -> None:
    """Annotations find their platform, Docker's types go through all of it, and files are split by platform."""
    (context / "Buildfile").write_text("FROM scratch\nARG TARGETARCH\nCOPY file-$TARGETARCH /file\n")
    for architecture in ("amd64", "arm64"):
        (context / f"file-{architecture}").write_text(architecture)
    layersmith(
        *("build", "--platform", "linux/amd64,linux/arm64", "-o", tmp_path / "files", "-o"),
        f"type=oci,tar=false,dest={tmp_path / 'oci'},annotation-index.i=j,annotation[linux/arm64].k=l,"
        "annotation-manifest-descriptor[linux/amd64].m=n,annotation-index-descriptor.o=p",
        *("-o", f"type=oci,tar=false,dest={tmp_path / 'docker'},oci-mediatypes=false", context),
    )
    assert (tmp_path / "files/linux_amd64/file").read_text() == "amd64"
    assert (tmp_path / "files/linux_arm64/file").read_text() == "arm64"
    entry, index = manifest(tmp_path / "oci")
    assert entry["annotations"]["o"] == "p" and index["annotations"] == {"i": "j"}
    amd64, arm64 = index["manifests"]
    assert amd64["annotations"] == {"m": "n"} and "annotations" not in arm64
    blobs = tmp_path / "oci/blobs/sha256"
    assert json.loads((blobs / arm64["digest"][7:]).read_text())["annotations"] == {"k": "l"}
    _, listed = manifest(tmp_path / "docker")
    assert listed["mediaType"].endswith("manifest.list.v2+json")
    assert {child["mediaType"] for child in listed["manifests"]} == {
        "application/vnd.docker.distribution.manifest.v2+json"
    }


def test_older_times(built: Layersmith, context: Path, tmp_path: Path) -> None:
    """rewrite-timestamp lowers the times of a built image, in its base's layers as well, and needs a time."""
    built("build", "-t", "web:1", context)
    refused = built("export", "web:1", "-o", "type=oci,rewrite-timestamp=true", status=2)
    assert "SOURCE_DATE_EPOCH" in refused.stderr
    output = f"type=oci,tar=false,dest={tmp_path / 'layout'},rewrite-timestamp=true"
    built("export", "web:1", "-o", output, SOURCE_DATE_EPOCH="1000000")
    other = built.with_store(tmp_path / "other")
    other("load", tmp_path / "layout", "--name", "old:1")
    other("export", "old:1", "-o", f"type=tar,dest={tmp_path / 'root.tar'}")
    with tarfile.open(tmp_path / "root.tar") as archive:
        assert max(info.mtime for info in archive) == 1_000_000
    config = json.loads(other("inspect", "old:1").stdout)[0]
    assert config["Created"] == "1970-01-12T13:46:40Z"
    assert other("run", "--rm", "--network=none", "old:1").stdout == "one\nthree\n"


def test_an_image_without_files_has_an_empty_layer(
    layersmith: Layersmith, context: Path, tmp_path: Path
) -> None:
    """image-spec's schema of a manifest wants a layer at least."""
    (context / "Buildfile").write_text("FROM scratch\nLABEL a=b\n")
    layersmith("build", "-t", "empty", "-o", f"type=oci,tar=false,dest={tmp_path / 'layout'}", context)
    _, document = manifest(tmp_path / "layout")
    assert len(document["layers"]) == 1
    (context / "Buildfile").write_text("FROM empty\nCOPY Buildfile /\n")
    layersmith("build", "-o", tmp_path / "out", context)
    assert paths(tmp_path / "out") == {"Buildfile"}


@pytest.mark.interop
@pytest.mark.needs_docker_registry
def test_push(built: Layersmith, context: Path, tmp_path: Path, registry: str) -> None:
    """--push under all names; -o type=registry in another form; by digest alone; and a build on what was pushed."""
    names = (f"{registry}/web:1", f"{registry}/team/web:2")
    built("build", "--push", "-t", names[0], "-t", names[1], context)
    other = built.with_store(tmp_path / "other")
    for name in names:
        assert other("run", "--rm", "--network=none", name).stdout == "one\nthree\n"
    done = built(
        "build", "-q", "-o", f"type=image,name={registry}/only,push=true,push-by-digest=true", context
    )
    assert other("pull", f"{registry}/only@{done.stdout.strip()}").stdout == done.stdout
    assert "no image" in other("pull", f"{registry}/only", status=5).stderr
    (context / "Buildfile").write_text(f"FROM {names[0]}\nRUN rm /a/one\nCMD cat /a/three\n")
    form = "compression=gzip,force-compression=true,oci-mediatypes=false"
    other("build", "-o", f'type=registry,"name={registry}/x:1,{registry}/x:2",{form}', context)
    third = built.with_store(tmp_path / "third")
    assert third("run", "--rm", "--network=none", f"{registry}/x:2").stdout == "three\n"
    assert "name" in built("build", "--push", context, status=2).stderr


@pytest.mark.interop
@pytest.mark.needs_docker_registry
def test_credentials_of_a_build(built: Layersmith, context: Path, tmp_path: Path) -> None:
    """--creds and --authfile are for FROM and for the push; without them the build ends with what is missing."""
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    auth = {"htpasswd": {"realm": "test", "path": str(tmp_path / "htpasswd")}}
    with served(tmp_path / "closed", auth=auth) as host:
        creds = ("--creds", f"{USER}:{PASSWORD}")
        assert "login" in built("build", "--push", "-t", f"{host}/web", context, status=6).stderr
        built("build", "--push", *creds, "-t", f"{host}/web", context)
        other = built.with_store(tmp_path / "other")
        (context / "Buildfile").write_text(f"FROM {host}/web\nRUN true\n")
        assert "login" in other("build", context, status=6).stderr
        built("login", "-u", USER, "-p", PASSWORD, "--authfile", tmp_path / "auth.json", host)
        other("build", "--authfile", tmp_path / "auth.json", context)
        third = built.with_store(tmp_path / "third")
        assert third("run", "--rm", "--network=none", *creds, f"{host}/web").stdout == "one\nthree\n"


@pytest.mark.interop
@pytest.mark.needs_docker_registry
def test_all_of_it_by_a_line_that_keeps_breaking(built: Layersmith, context: Path, tmp_path: Path) -> None:
    """Pull, build, push and pull by digest, with a password, through a slow proxy that drops connections."""
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    auth = {"htpasswd": {"realm": "test", "path": str(tmp_path / "htpasswd")}}
    creds = ("--creds", f"{USER}:{PASSWORD}")
    with (
        served(tmp_path / "closed", auth=auth) as host,
        closing(FaultyLine(host, seed=3, least=400_000, most=3_000_000)) as line,
    ):
        built("build", "--push", *creds, "-t", f"{host}/web:1", context)
        (context / "random").write_bytes(random.Random(1).randbytes(300_000))
        (context / "Buildfile").write_text(f"FROM {line.host}/web:1\nCOPY random /\nRUN cat /a/one >/own\n")
        other = built.with_store(tmp_path / "other")
        done = other("build", "-q", "--push", *creds, "-t", f"{line.host}/own:1", context, timeout=300)
        third = built.with_store(tmp_path / "third")
        name = f"{line.host}/own@{done.stdout.strip()}"
        assert third("pull", "-q", *creds, name, timeout=300).stdout == done.stdout
        assert third("run", "--rm", "--network=none", name, "cat", "/own").stdout == "one\n"
        assert line.lost > 0
