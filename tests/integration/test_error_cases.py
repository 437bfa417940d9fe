"""Golden errors of what can be planned, but not built: tests/cases/unbuildable/<topic>/{Buildfiles,expected}.

``Buildfiles`` are several, with ``====`` between them, all with the context that `make_context` makes, the image ``base``
and a server. ``UPDATE_CASES=1 pytest tests/integration/test_error_cases.py`` writes what is expected anew; read the
difference before you commit it.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from program import COMMAND, Layersmith

CASES = Path(__file__).parent.parent / "cases" / "unbuildable"


def archive(*members: tuple[str, bytes, str]) -> bytes:
    """A tar of (name, type, link)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, link in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            tar.addfile(info)
    return out.getvalue()


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files, and things that look like files."""
    top = tmp_path_factory.mktemp("context")
    for name in ("file", "two", "hidden.txt", "src/main.c", "tree/same/inner", "flat/same", "whiteout/.wh.x"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(name)
    (top / ".dockerignore").write_text("# what others need not see\nhidden.*\n")
    (top / "loop").symlink_to("loop")
    (top / "dangling").symlink_to("nowhere")
    good = archive(("d", tarfile.DIRTYPE, ""), ("d/f", tarfile.REGTYPE, ""))
    (top / "good.tar").write_bytes(good)
    (top / "truncated.tar").write_bytes(good[:700])
    (top / "damaged.tar.gz").write_bytes(gzip.compress(good, mtime=0)[:60])
    (top / "hardlink.tar").write_bytes(archive(("h", tarfile.LNKTYPE, "nothing")))
    loop = archive(("a", tarfile.SYMTYPE, "b"), ("b", tarfile.SYMTYPE, "a"), ("a/f", tarfile.REGTYPE, ""))
    (top / "loop.tar").write_bytes(loop)
    return top


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``host:port`` of files, among them a git repository."""
    top = tmp_path_factory.mktemp("served")
    (top / "good").write_text("good")
    if shutil.which("git"):
        work, bare = top / "work", top / "repository.git"
        quiet = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
        for who in ("AUTHOR", "COMMITTER"):
            quiet |= {f"GIT_{who}_{what}": "a@b" for what in ("NAME", "EMAIL")}
            quiet[f"GIT_{who}_DATE"] = "1000000000 +0000"
        for command in (
            ["init", "-q", "-b", "main", work],
            ["-C", work, "commit", "-q", "--allow-empty", "-m", "empty"],
            ["clone", "-q", "--bare", work, bare],
            ["-C", bare, "update-server-info"],
        ):
            subprocess.run(["git", *command], env=quiet, check=True)

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            if self.path == "/broken":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b"short")
                self.close_connection = True
            else:
                super().do_GET()

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=os.fspath(top))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{running.server_address[1]}"
        running.shutdown()


@pytest.mark.parametrize("topic", sorted(path.name for path in CASES.iterdir()))
def test_unbuildable(
    layersmith: Layersmith,
    topic: str,
    context: Path,
    server: str,
    busybox_tar: Path | None,
    tmp_path: Path,
) -> None:
    """Each ends with the expected status, words and place."""
    if topic == "run":
        if busybox_tar is None:
            pytest.skip("needs a static busybox for a small base image")
        layersmith("import", busybox_tar, "base")
    if topic == "remote" and not shutil.which("git"):
        pytest.skip("needs git")
    told = []
    for text in (CASES / topic / "Buildfiles").read_text().split("====\n"):
        file = tmp_path / "Buildfile"
        file.write_text(text.replace("{server}", server))
        words = [*COMMAND, "build", "--progress=quiet", "-f", os.fspath(file), os.fspath(context)]
        done = subprocess.run(words, env=layersmith.environment, capture_output=True, text=True, timeout=60)
        assert done.returncode, text
        assert "Traceback" not in done.stderr
        said = done.stderr.replace(server, "{server}").replace(f"{file}", "Buildfile")
        said = re.sub(f"{layersmith.root}/\\S+", "STORE", said)
        told.append(f"exit status {done.returncode}\n{said}")
    actual = "\n".join(told)
    expected = CASES / topic / "expected"
    if os.environ.get("UPDATE_CASES"):
        expected.write_text(actual)
    assert actual == expected.read_text()


def test_a_secret_has_a_limit(layersmith: Layersmith, busybox_tar: Path | None, tmp_path: Path) -> None:
    """It is kept in memory, and its content is never said."""
    if busybox_tar is None:
        pytest.skip("needs a static busybox for a small base image")
    layersmith("import", busybox_tar, "base")
    (tmp_path / "Buildfile").write_text("FROM base\nRUN --mount=type=secret,id=s true\n")
    (tmp_path / "s").write_bytes(b"x" * 600_000)
    done = layersmith("build", f"--secret=id=s,src={tmp_path}/s", tmp_path / "Buildfile", status=4)
    assert "secret s is larger than 500 KiB" in done.stderr
    assert "xxxx" not in done.stderr
