"""``manifest …``: an index put together by hand, looked at, pushed, taken apart."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from layersmith.cli import run
from layersmith.oci.platform import native
from layersmith.transport.registry.fake import FakeRegistry

OTHER = "riscv64" if native().architecture != "riscv64" else "s390x"


@pytest.fixture
def image(cli: Any) -> Callable[..., str]:
    """``image(name, architecture)`` makes an image of one file; its digest."""

    def make(name: str, architecture: str = native().architecture) -> str:
        buffer = BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            info = tarfile.TarInfo("arch")
            info.size = len(architecture)
            tar.addfile(info, BytesIO(architecture.encode()))
        platform = f"linux/{architecture}"
        return str(cli("import", "--platform", platform, "-", name, stdin=buffer.getvalue())).strip()

    return make


def manifest(cli: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cli("manifest", "inspect", name))
    return found


def listed(cli: Any, name: str) -> list[tuple[str, str]]:
    """(architecture, digest) of what an index lists."""
    return [
        (entry["platform"]["architecture"], entry["digest"]) for entry in manifest(cli, name)["manifests"]
    ]


def test_an_index_of_two_images_is_an_image_for_both_platforms(cli: Any, image: Callable[..., str]) -> None:
    """Platforms come from the images' configs; whoever uses the name gets the image for its platform."""
    here, there = image("web:here"), image("web:there", OTHER)
    cli("manifest", "create", "web", "web:here", "web:there")
    assert listed(cli, "web") == [(native().architecture, here), (OTHER, there)]
    assert cli("inspect", "--format", "{{.Architecture}}", "web").strip() == native().architecture
    other = cli("inspect", "--platform", f"linux/{OTHER}", "--format", "{{.Architecture}}", "web")
    assert other.strip() == OTHER


def test_create_does_not_replace_but_amend_adds(cli: Any, image: Callable[..., str]) -> None:
    """As docker and podman have it; an image that is no index can't be added to."""
    here, there = image("web:here"), image("web:there", OTHER)
    cli("manifest", "create", "web", "web:here")
    assert "--amend" in cli.error("manifest", "create", "web", "web:there", status=2)
    cli("manifest", "create", "--amend", "web", "web:there")
    assert [digest for _, digest in listed(cli, "web")] == [here, there]
    message = cli.error("manifest", "create", "--amend", "web:here", "web:there", status=2)
    assert "not an index" in message


def test_add_takes_the_place_of_the_same_platforms_image(cli: Any, image: Callable[..., str]) -> None:
    """An image built again replaces its older self; --arch and --variant say what its config does not."""
    image("web:here")
    there = image("web:there", OTHER)
    cli("manifest", "create", "web", "web:here")
    cli("manifest", "add", "web", "web:there")
    cli("manifest", "add", "--arch", "arm", "--variant", "v6", "web", "web:here")
    assert listed(cli, "web")[0] == (OTHER, there)
    assert manifest(cli, "web")["manifests"][1]["platform"] == {
        "os": "linux",
        "architecture": "arm",
        "variant": "v6",
    }
    assert "no image" in cli.error("manifest", "add", "missing", "web:here", status=5)


def test_an_index_in_an_index_gives_this_machines_image_or_all(cli: Any, image: Callable[..., str]) -> None:
    """``--all`` as in podman: flattened, never an index within an index."""
    here, there = image("web:here"), image("web:there", OTHER)
    cli("manifest", "create", "web", "web:here", "web:there")
    cli("manifest", "create", "one", "web")
    assert [digest for _, digest in listed(cli, "one")] == [here]
    cli("manifest", "create", "--all", "all", "web")
    assert [digest for _, digest in listed(cli, "all")] == [here, there]


def test_annotate_changes_an_entry_or_the_index(cli: Any, image: Callable[..., str]) -> None:
    """The image is named, or given by (the beginning of) its digest; the image itself stays as it is."""
    here = image("web:here")
    cli("manifest", "create", "web", "web:here")
    cli("manifest", "annotate", "--os-version", "1", "--annotation", "a=b", "web", here[7:19])
    cli("manifest", "annotate", "--index", "--annotation", "c=d", "web")
    found = manifest(cli, "web")
    assert found["annotations"] == {"c": "d"}
    (entry,) = found["manifests"]
    assert (entry["digest"], entry["annotations"], entry["platform"]["os.version"]) == (here, {"a": "b"}, "1")
    assert "NAME=VALUE" in cli.error("manifest", "annotate", "--annotation", "a", "web", here, status=2)
    assert "--index" in cli.error("manifest", "annotate", "web", status=2)


def test_remove_and_rm(cli: Any, image: Callable[..., str]) -> None:
    """``remove`` takes an image out of an index, ``rm`` the index out of the store, and no image with it."""
    here, there = image("web:here"), image("web:there", OTHER)
    cli("manifest", "create", "web", "web:here", "web:there")
    cli("manifest", "remove", "web", "web:there")
    assert [digest for _, digest in listed(cli, "web")] == [here]
    assert there[:19] in cli.error("manifest", "remove", "web", there, status=5)
    assert "not an index" in cli.error("manifest", "rm", "web:here", status=2)
    assert cli("manifest", "rm", "web") == "Untagged: web\n"
    assert sorted(cli("images", "--format", "{{.Tag}}").split()) == ["here", "there"]


def test_a_word_that_is_no_verb(cli: Any) -> None:
    """``manifest`` alone lists what there is."""
    assert "create" in cli.error("manifest", "crate", status=2)
    assert "annotate" in cli("manifest", "--help")


@pytest.fixture
def fake(cli: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeRegistry]:
    monkeypatch.setenv("LAYERSMITH_ROOT", str(cli.root))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with FakeRegistry() as registry:
        yield registry


def test_push_sends_the_index_and_its_images(
    cli: Any, image: Callable[..., str], fake: FakeRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a registry then has can be looked at there without being pulled; ``--rm`` removes the index here."""
    here, there = image("web:here"), image("web:there", OTHER)
    digest = cli("manifest", "create", "web", "web:here", "web:there").strip()
    assert run(["manifest", "push", "-q", "--rm", "web", f"{fake.host}/web"]) == 0
    assert run(["manifest", "push", "web:here", f"{fake.host}/web"]) == 2
    assert capsys.readouterr().out == f"{digest}\n"
    assert run(["manifest", "inspect", f"{fake.host}/web"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [entry["digest"] for entry in found["manifests"]] == [here, there]
    assert sorted(cli("images", "--format", "{{.Tag}}").split()) == ["here", "there"]
