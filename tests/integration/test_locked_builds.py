"""``lock`` and builds with a lock file: against a registry whose tags move, and a server whose files change."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from program import Layersmith

from layersmith.transport.registry.fake import FakeRegistry

BOTH = "linux/amd64,linux/arm64"


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as fake:
        yield fake


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server's address and its directory."""
    directory = tmp_path / "served"
    directory.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(directory))) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}", directory
        http.shutdown()


def push_base(ours: Layersmith, name: str, text: str, tmp_path: Path) -> str:
    """Push an image for two platforms with the file /base; the index's digest."""
    directory = tmp_path / "base"
    directory.mkdir(exist_ok=True)
    (directory / "base").write_text(text)
    (directory / "Buildfile").write_text("FROM scratch\nARG TARGETARCH\nCOPY base /\nENV A=$TARGETARCH\n")
    return ours("build", "-q", "--platform", BOTH, "-t", name, "--push", directory).stdout.strip()


def files(ours: Layersmith, name: str, directory: Path, *flags: str) -> dict[str, str]:
    ours("export", name, *flags, "-o", f"type=local,dest={directory}")
    return {path.name: path.read_text() for path in directory.iterdir() if path.is_file()}


def test_builds_stay_with_what_was_locked(
    layersmith: Layersmith, registry: FakeRegistry, context: Path, tmp_path: Path
) -> None:
    """A tag that moves changes nothing until ``lock --update``; one lock holds for all platforms and other stores."""
    name = f"{registry.host}/base:1"
    maker, ours = layersmith.with_store(tmp_path / "maker"), layersmith
    old = push_base(maker, name, "old", tmp_path)
    (context / "Buildfile").write_text(f"FROM {name}\nCOPY Buildfile /\n")
    ours("lock", context)
    assert json.loads((context / "Buildfile.lock").read_text())["images"] == {name: old}
    ours("lock", "--check", context)

    new = push_base(maker, name, "new", tmp_path)
    drift = ours("lock", "--check", context, status=1).stdout
    assert drift == f"{name}: {old} -> {new}\n"
    for number, store in enumerate((ours, layersmith.with_store(tmp_path / "elsewhere"))):
        store("build", "--locked", "--platform", BOTH, "-t", "app", context)
        found = files(store, "app", tmp_path / f"out-{number}", "--platform", "linux/arm64")
        assert found["base"] == "old"
    ours("lock", context)
    assert json.loads((context / "Buildfile.lock").read_text())["images"] == {name: old}
    ours("lock", "--update", context)
    assert json.loads((context / "Buildfile.lock").read_text())["images"] == {name: new}
    ours("build", "--locked", "-t", "app", context)
    assert files(ours, "app", tmp_path / "out-new")["base"] == "new"


def test_locked_refuses_what_the_lock_does_not_have(
    layersmith: Layersmith, base: str, context: Path, server: tuple[str, Path]
) -> None:
    """No file at all, a further FROM, a further URL; without --locked they are taken as they are."""
    url, directory = server
    (directory / "a").write_text("a")
    (context / "Buildfile").write_text("FROM base\nCOPY Buildfile /\n")
    assert "`layersmith lock`" in layersmith("build", "--locked", context, status=2).stderr
    layersmith("lock", context)
    layersmith("build", "--locked", context)
    layersmith("tag", "base", "further")
    (context / "Buildfile").write_text("FROM further\nCOPY Buildfile /\n")
    failed = layersmith("build", "--locked", context, status=3).stderr
    assert "image further:latest is not in the lock file" in failed
    assert "Buildfile:1:1" in failed
    (context / "Buildfile").write_text(f"FROM base\nADD {url}/a /\n")
    assert f"{url}/a is not in the lock file" in layersmith("build", "--locked", context, status=3).stderr
    layersmith("build", context)


def test_a_file_that_changed_on_its_server_is_refused(
    layersmith: Layersmith, base: str, context: Path, server: tuple[str, Path], tmp_path: Path
) -> None:
    """By its digest, as with --checksum; the lock's own file is what git shows of the change."""
    url, directory = server
    (directory / "a").write_text("one")
    (context / "Buildfile").write_text(f"FROM base\nADD {url}/a /\n")
    layersmith("lock", context)
    first = (context / "Buildfile.lock").read_text()
    (directory / "a").write_text("other")
    failed = layersmith("build", "--no-cache", context, status=6).stderr
    assert "its digest is sha256:" in failed
    layersmith("lock", "--update", context)
    assert (context / "Buildfile.lock").read_text() != first
    layersmith("build", "-t", "app", context)
    assert files(layersmith, "app", tmp_path / "out")["a"] == "other"


def test_the_same_url_added_twice(
    layersmith: Layersmith, base: str, context: Path, server: tuple[str, Path]
) -> None:
    """The cache knows the operation, but not on these files: it is looked at again when it is its turn."""
    url, directory = server
    (directory / "a").write_text("one")
    (context / "Buildfile").write_text(f"FROM base\nADD {url}/a /x/\n")
    layersmith("build", context)
    (context / "Buildfile").write_text(f"FROM base\nCOPY Buildfile /\nADD {url}/a /x/\n")
    layersmith("build", context)


def test_a_damaged_lock_file_ends_the_build(layersmith: Layersmith, base: str, context: Path) -> None:
    """As a wrong command line does: nothing was built, and the message says what to do."""
    (context / "Buildfile").write_text("FROM base\n")
    (context / "Buildfile.lock").write_text("<<<<<<< HEAD\n")
    failed = layersmith("build", context, status=2).stderr
    assert "Buildfile.lock is not JSON" in failed
    assert "layersmith lock" in failed
