"""Every directory in examples/ builds without a network, and does what its README says."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from program import Layersmith

EXAMPLES = Path(__file__).parents[2] / "examples"
TESTED = {"c-scratch", "hello", "overlay-tour", "python-web", "static-site"}
"""The tour by test_overlay_tour.py."""

OFFLINE = ("unshare", "--net") if os.geteuid() == 0 and shutil.which("unshare") else ()
"""Nothing but an unconfigured loopback; root alone can have that without more namespaces in the way."""


def shell_lines(example: str) -> list[list[str]]:
    """The commands ``layersmith …`` of an example's README, as words, for the checks to run those very ones."""
    text = (EXAMPLES / example / "README.md").read_text()
    lines = [line.removeprefix("layersmith ") for line in text.splitlines() if line.startswith("layersmith ")]
    return [line.split() for line in lines]


@pytest.fixture
def follow(layersmith: Layersmith, tmp_path: Path) -> Callable[..., list[subprocess.CompletedProcess[str]]]:
    """Runs the README's commands from a directory that has ``examples/`` in it."""
    (tmp_path / "examples").symlink_to(EXAMPLES)

    def run(example: str, program: Layersmith = layersmith) -> list[subprocess.CompletedProcess[str]]:
        done = []
        for words in shell_lines(example):
            before = OFFLINE if words[0] == "build" else ()
            done.append(program(*words, before=before, cwd=tmp_path, timeout=120))
        return done

    return run


def test_every_example_is_tested() -> None:
    """A new example comes with a test of what its README says."""
    assert {path.parent.name for path in EXAMPLES.glob("*/Buildfile")} == TESTED


def test_hello(follow: Callable[..., list[subprocess.CompletedProcess[str]]], layersmith: Layersmith) -> None:
    """Its three commands, on a base of this machine's own programs; then its two suggestions."""
    *_, ran = follow("hello")
    assert ran.stdout == "Hello from a container, world\n"
    again = layersmith("build", "-t", "hello", "--build-arg", "WHO=you", EXAMPLES / "hello")
    assert "CACHED" in again.stderr
    assert layersmith("run", "--rm", "hello").stdout == "Hello from a container, you\n"
    assert "greeting" in layersmith("history", "--no-trunc", "hello").stdout
    assert "A /etc/greeting" in layersmith("diff", "hello").stdout


def test_static_site(follow: Callable[..., list[subprocess.CompletedProcess[str]]], tmp_path: Path) -> None:
    """The site, as files: no image's other files, every page with its title."""
    follow("static-site")
    site = tmp_path / "site"
    assert sorted(path.name for path in site.iterdir()) == ["about.html", "index.html", "style.css"]
    for page in ("about", "index"):
        title = (EXAMPLES / "static-site" / "pages" / f"{page}.txt").read_text().splitlines()[0]
        assert f"<title>{title}</title>" in (site / f"{page}.html").read_text()


@pytest.fixture(scope="session")
def tools(debian: Layersmith, toolchain: str, tmp_path_factory: pytest.TempPathFactory) -> Layersmith:
    """The Debian store, with the bases that the READMEs have mmdebstrap make."""
    context = tmp_path_factory.mktemp("tools")
    (context / "Buildfile").write_text(toolchain)
    debian("build", "-t", "debian:gcc", "-t", "debian:python", context, timeout=600)
    return debian


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.needs_mmdebstrap
def test_c_scratch(tools: Layersmith) -> None:
    """The program, in an image of that one file."""
    tools("build", "-t", "primes", EXAMPLES / "c-scratch", before=OFFLINE)
    assert tools("run", "--rm", "primes", "50").stdout == "2 3 5 7 11 13 17 19 23 29 31 37 41 43 47\n"
    assert tools("run", "--rm", "primes").stdout == "2 3 5 7 11 13 17 19 23 29\n"
    assert tools("diff", "--layer", "1", "primes").stdout.split() == ["A", "/primes"]


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.needs_mmdebstrap
def test_python_web(tools: Layersmith) -> None:
    """The service answers, as its own user, and Ctrl-C ends it."""
    tools("build", "-t", "web", EXAMPLES / "python-web", before=OFFLINE)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tools.start("run", "--rm", "--network", "host", "-e", f"PORT={port}", "web") as service:
        try:
            assert json.loads(ask(f"http://127.0.0.1:{port}/health")) == {"status": "ok"}
            os.killpg(service.pid, signal.SIGINT)
            said, _ = service.communicate(timeout=15)
        finally:
            service.kill()
    assert "Traceback" not in said
    assert service.returncode in (0, 130), said
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)


def ask(url: str) -> bytes:
    """What is at ``url``, once somebody listens there."""
    end = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return bytes(answer.read())
        except urllib.error.URLError:
            assert time.monotonic() < end, "nobody answers"
            time.sleep(0.05)
