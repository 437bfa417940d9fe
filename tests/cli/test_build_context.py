"""``build --build-context NAME=…`` and the context itself, from wherever they may come."""

from __future__ import annotations

import io
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

BUILDFILE = "FROM scratch\nCOPY --from=extra data /\n"


@pytest.fixture
def extra(tmp_path: Path) -> Path:
    """A directory to copy from, and beside it the project that does."""
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "Buildfile").write_text(BUILDFILE)
    directory = tmp_path / "extra"
    directory.mkdir()
    (directory / "data").write_text("of the other context")
    return directory


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """Of a server that has the test's directory."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def built(cli: Any, out: Path, value: str) -> str:
    """What the build with ``extra=value`` copied."""
    cli("build", "-q", "--build-context", f"extra={value}", "-o", str(out), "project")
    return (out / "data").read_text()


def test_a_directory_an_image_and_a_layout(cli: Any, extra: Path, tmp_path: Path) -> None:
    """All three are the same to COPY --from."""
    assert built(cli, tmp_path / "a", str(extra)) == "of the other context"
    (extra / "Buildfile").write_text("FROM scratch\nCOPY data /\n")
    cli("build", "-q", "-t", "data", "-o", "type=oci,dest=layout,tar=false", "extra")
    cli("build", "-q", "-t", "data", "extra")
    assert built(cli, tmp_path / "b", "docker-image://data") == "of the other context"
    assert built(cli, tmp_path / "c", "oci-layout://layout") == "of the other context"


def test_an_archive_on_a_server(cli: Any, extra: Path, url: str, tmp_path: Path) -> None:
    """Unpacked, whatever its compression."""
    with tarfile.open(tmp_path / "extra.tar.gz", "w:gz") as tar:
        tar.add(extra / "data", "data")
    assert built(cli, tmp_path / "out", f"{url}/extra.tar.gz") == "of the other context"


@pytest.mark.needs_git
def test_a_git_repository(cli: Any, extra: Path, url: str, tmp_path: Path) -> None:
    """At a ref, in a subdirectory."""
    git = ("git", "-C", str(extra), "-c", "user.name=n", "-c", "user.email=e@example.com")
    subprocess.run(["git", "init", "-q", "-b", "main", str(extra)], check=True)
    (extra / "sub").mkdir()
    (extra / "data").rename(extra / "sub" / "data")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "data"], check=True)
    subprocess.run(["git", "clone", "-q", "--bare", str(extra), str(tmp_path / "extra.git")], check=True)
    subprocess.run(["git", "-C", str(tmp_path / "extra.git"), "update-server-info"], check=True)
    assert built(cli, tmp_path / "out", f"{url}/extra.git#main:sub") == "of the other context"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("extra", "invalid --build-context 'extra'"),
        ("=extra", "invalid --build-context '=extra'"),
        ("extra=ftp://example.com/x", "unknown scheme"),
    ],
)
@pytest.mark.usefixtures("extra")
def test_a_context_that_makes_no_sense(cli: Any, value: str, said: str) -> None:
    """A wrong command line, with what might stand there."""
    error = cli.error("build", "--build-context", value, "project", status=2)
    assert said in error
    assert "git" in error


def test_standard_input_is_an_archive_or_a_buildfile(cli: Any, tmp_path: Path) -> None:
    """By what comes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as tar:
        for name, text in (("Dockerfile", b"FROM scratch\nCOPY data /\n"), ("data", b"of the archive")):
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text))
    cli("build", "-q", "-o", "a", "-", stdin=buffer.getvalue())
    assert (tmp_path / "a" / "data").read_text() == "of the archive"
    cli("build", "-q", "-o", "b", "-", stdin=b"FROM scratch\nCOPY <<E /data\nlone\nE\n")
    assert (tmp_path / "b" / "data").read_text() == "lone\n"
