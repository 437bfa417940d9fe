"""Every directory in examples/ builds without a network, and does what its README says."""

from __future__ import annotations

import json
import os
import re
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
EXTENSIONS = {
    "include": {"INCLUDE"},
    "run-flags": {"RUN --no-cache", "RUN --retry", "RUN --timeout"},
    "unset": {"UNSET"},
    "variables": {"a variable in COPY --from", "a variable in --mount=from=", "a variable in --exclude"},
}
"""What each of these shows that a Dockerfile can't have."""
TESTED = {"c-scratch", "hello", "overlay-tour", "python-web", "static-site", *EXTENSIONS}
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


def test_include(follow: Callable[..., list[subprocess.CompletedProcess[str]]]) -> None:
    """A file that includes a file that includes a file, each path relative to its own."""
    *_, ran = follow("include")
    assert ran.stdout == "Hello from greeter, kept by the example team\n"


def test_unset(follow: Callable[..., list[subprocess.CompletedProcess[str]]], layersmith: Layersmith) -> None:
    """What the base set is gone from the config; what is not named stays."""
    *_, ran = follow("unset")
    assert ran.stdout == "DEBUG=unset LEVEL=\n"
    config = json.loads(layersmith("inspect", "--format", "{{json .Config}}", "bare").stdout)
    assert config["ExposedPorts"] == {"80/tcp": {}}
    assert config["Volumes"] == {"/data": {}}
    assert not config.get("Labels")


def test_run_flags(
    follow: Callable[..., list[subprocess.CompletedProcess[str]]], layersmith: Layersmith
) -> None:
    """The flaky step is tried until it works; in the next build only the --no-cache step runs."""
    *_, built, ran = follow("run-flags")
    assert ran.stdout == "asked at every build\n" + "attempt\n" * 3 + "in time\n"
    assert re.findall(r"trying again \((.*)\)", built.stderr) == ["1 of 3", "2 of 3"]
    again = layersmith("build", EXAMPLES / "run-flags").stderr
    assert "4 steps" in again
    assert "1 ran" in again


def test_variables(
    follow: Callable[..., list[subprocess.CompletedProcess[str]]], layersmith: Layersmith
) -> None:
    """One argument picks the stage, and the other stage is not built; another what stays out."""
    *_, built, ran = follow("variables")
    assert ran.stdout == "*** fancy ***\nindex.txt motto twice\n"
    assert "[plain" not in built.stderr
    arguments = ("--build-arg", "HIDDEN=*.txt", "-t", "plain")
    assert "[fancy" not in layersmith("build", *arguments, EXAMPLES / "variables").stderr
    assert layersmith("run", "--rm", "plain").stdout == "plain and simple\nmotto next.draft twice\n"


@pytest.mark.parametrize("example", sorted(EXTENSIONS))
def test_extensions_are_named_in_a_portable_dialect(example: str, layersmith: Layersmith) -> None:
    """Each one that the example shows, and by default none."""
    assert layersmith("check", EXAMPLES / example).stdout == ""
    words = ("check", "--dialect", "dockerfile", "--format", "json", EXAMPLES / example)
    found = json.loads(layersmith(*words, status=1).stdout)
    assert {finding["rule"] for finding in found} == {"DockerfileDialect"}
    named = {
        finding["message"].removesuffix(" is an extension that other builders do not know")
        for finding in found
    }
    assert named == EXTENSIONS[example]


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
