"""``build --dry-run`` and ``--print-graph``: what would be done, and nothing done."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from layersmith.cli import run
from layersmith.oci import mediatype
from layersmith.oci.config import ImageConfig
from layersmith.oci.descriptor import Descriptor
from layersmith.oci.digest import DiffID, digest_of
from layersmith.oci.manifest import Manifest
from layersmith.oci.platform import native
from layersmith.transport.registry.fake import FakeRegistry

BUILDFILE = """\
FROM scratch AS files
COPY a /a
FROM scratch
COPY --from=files /a /b
WORKDIR /srv
"""


def contents(root: Path) -> dict[str, str]:
    """Every file below ``root``, with the digest of its content; the database by what it says of images and steps."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.name.startswith("layersmith.db")
    }


@pytest.fixture
def project(tmp_path: Path) -> Path:
    context = tmp_path / "project"
    context.mkdir()
    (context / "Buildfile").write_text(BUILDFILE)
    (context / "a").write_text("one")
    return context


def states(output: str) -> list[str]:
    return re.findall(r"^#\d+ +(\w+)", output, re.MULTILINE)


def test_a_plan_before_and_after_a_build(cli: Any, project: Path) -> None:
    """Everything runs, then everything is cached, and after an edit what the edit reaches."""
    assert states(cli("build", "--dry-run", "project")) == ["stored", "runs", "runs", "runs"]
    cli("build", "project")
    assert states(cli("build", "--dry-run", "project")) == ["stored", "cached", "cached", "cached"]
    assert states(cli("build", "--dry-run", "--no-cache", "project")) == ["stored", "runs", "runs", "runs"]
    (project / "a").write_text("two")
    said = cli("build", "--dry-run", "-t", "web:1", "project")
    assert states(said) == ["stored", "runs", "open", "open"]
    assert "1 to run, 2 open" in said
    assert "would be named web:1" in said


def test_nothing_is_changed(cli: Any, project: Path) -> None:
    """Neither a store that is there, nor one that is not."""
    for words in (["--dry-run"], ["--print-graph=json"]):
        cli("build", *words, "project")
        assert not cli.root.exists()
    cli("build", "-t", "web", "project")
    before = contents(cli.root)
    (project / "a").write_text("two")
    cli("build", "--dry-run", "-t", "other", "--iidfile", "id", "-o", "out", "project")
    assert contents(cli.root) == before
    assert not (project.parent / "id").exists()
    assert not (project.parent / "out").exists()


def test_mistakes_are_found(cli: Any, project: Path) -> None:
    """As the build would find them, with its statuses."""
    assert "could not be found" in cli.error("build", "--dry-run", "--target", "no", "project", status=3)
    (project / "Buildfile").write_text("FORM scratch\n")
    assert "FROM" in cli.error("build", "--dry-run", "project", status=3)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRegistry]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LAYERSMITH_ROOT", str(tmp_path / "store"))
    for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_CONFIG_HOME", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with FakeRegistry() as fake:
        yield fake


def test_what_would_be_pulled(
    registry: FakeRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A base that the store lacks: its config decides the plan, its layers are counted and left where they are."""
    layer_tar = bytes(10240)
    config = ImageConfig(native(), env=("PLACE=/srv",), diff_ids=(DiffID(digest_of(layer_tar)),)).to_json()
    layer = gzip.compress(layer_tar, mtime=0)
    registry.add_blob("base", config)
    digest = registry.add_blob("base", layer)
    manifest = Manifest(
        Descriptor.of(mediatype.OCI_CONFIG, config), (Descriptor.of(mediatype.OCI_LAYER_GZIP, layer),)
    )
    registry.add_manifest("base", manifest.to_json(), "1")
    context = tmp_path / "project"
    context.mkdir()
    (context / "Buildfile").write_text(f"FROM {registry.host}/base:1\nCOPY --link . $PLACE\nWORKDIR $PLACE\n")

    assert run(["build", "--dry-run", str(context)]) == 0
    said = capsys.readouterr().out
    assert states(said) == ["pulled", "runs", "runs"]
    assert f"{len(layer)}B in 1 of 1 layers" in said
    assert "WORKDIR $PLACE" in said
    assert not registry.requests("GET", f"/v2/base/blobs/{digest}")
    assert not (tmp_path / "store").exists()


def test_an_add_of_a_url_is_not_fetched(cli: Any, project: Path) -> None:
    """Its key would need the download: it is said to run."""
    (project / "Buildfile").write_text("FROM scratch\nADD http://127.0.0.1:9/x /x\n")
    assert states(cli("build", "--dry-run", "project")) == ["stored", "runs"]


def test_graphs(cli: Any, project: Path) -> None:
    """JSON says what needs what; the pictures name every step."""
    found = json.loads(cli("build", "--print-graph=json", "project"))
    assert [step["needs"] for step in found["steps"]] == [[], [0], [0, 1], [2]]
    assert [step["kind"] for step in found["steps"]] == ["source", "copy", "copy", "mkdir"]
    assert found["finals"] == [3]
    for form in ("dot", "mermaid", "svg"):
        drawn = cli("build", f"--print-graph={form}", "project")
        assert "COPY" in drawn
        assert "WORKDIR /srv" in drawn
