"""README.md: its blocks are run, with what they take for granted made ready: a context, archives, a registry.

Of its first two commands, which set up a machine, `.ci/run` runs the second; of the first what follows the set-up is run.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
from blocks import blocks, run_script

from layersmith import cli
from layersmith.transport.registry.fake import FakeRegistry

README = Path(__file__).parents[2] / "README.md"

READY = """
layersmith import --host sh cat python3 base
printf 'FROM base\nRUN echo web > /web\nCMD ["cat", "/web"]\n' > Buildfile
layersmith build -q -t docker-image .
layersmith export docker-image -o image.tar
layersmith export base -o type=tar,dest=- | gzip -1 > alpine-minirootfs.tar.gz
"""


def block_with(text: str) -> str:
    (found,) = (block for block in blocks(README) if text in block)
    return found


def run(script: str, shell: dict[str, str], cwd: Path) -> str:
    return run_script(script, shell, cwd, options="-eux -o pipefail")[0]


def test_the_commands_of_the_readme_parse() -> None:
    """All of them, those that can't be run on every machine, too."""
    found = 0
    for line in "\n".join(blocks(README)).splitlines():
        for part in re.split(r"&&|\|", line.partition(" #")[0].partition("   ")[0]):
            name, *words = part.split() or [""]
            if name == "layersmith":
                command, rest = cli.command_of(words)
                module = importlib.import_module(f"layersmith.cli.{cli.COMMANDS[command].module}")
                cli.command_parser(command, module).parse_args(rest)
                found += 1
    assert found > 5


@pytest.mark.slow
def test_the_first_command(shell: dict[str, str], tmp_path: Path) -> None:
    """All but the installation, offline: it ends with what the README says."""
    setup, so_far, rest = block_with("hello examples/hello").partition(
        'export PATH="$PWD/.venv/bin:$PATH" && '
    )
    assert "pip install" in setup
    assert so_far
    said = run(rest, shell, tmp_path).splitlines()[-1]
    assert f"`{said}`" in README.read_text()


@pytest.fixture
def project(shell: dict[str, str], tmp_path: Path) -> Path:
    """A directory with what the blocks name."""
    directory = tmp_path / "project"
    directory.mkdir()
    run(READY, shell, directory)
    return directory


@pytest.mark.slow
def test_what_to_do_with_it(project: Path, shell: dict[str, str]) -> None:
    """Build, run, push, export; ``web`` is an alias of a registry on this machine, and there is no terminal to give."""
    with FakeRegistry() as registry:
        config = Path(shell["HOME"], ".config/layersmith/config.yaml")
        config.parent.mkdir(parents=True)
        config.write_text(f"aliases:\n  web: {registry.host}/web\n")
        run(block_with("layersmith push web:1.2").replace(" -it ", " -i "), shell, project)
        assert ("web", "1.2") in registry.manifests
    assert (project / "web.tar").stat().st_size > 1000


@pytest.mark.slow
def test_where_bases_come_from(project: Path, shell: dict[str, str]) -> None:
    """All four ways. mmdebstrap itself would take a mirror of Debian: what it writes to its pipe is made here."""
    stub = project.parent / "bin" / "mmdebstrap"
    stub.write_text(f"#!/bin/sh\nexec gzip -dc {project}/alpine-minirootfs.tar.gz\n")
    stub.chmod(0o755)
    run(block_with("mmdebstrap"), shell, project)
    shown = run("layersmith images --format '{{.Repository}}:{{.Tag}}'", shell, project)
    assert {"debian:bookworm", "alpine:latest", "base:latest", "docker-image:latest"} <= set(shown.split())


@pytest.mark.slow
def test_several_platforms(project: Path, shell: dict[str, str]) -> None:
    """One index for two platforms, pushed; what runs of it needs an emulator, so that line is left out."""
    (project / "Buildfile").write_text("FROM scratch\nCOPY image.tar /\n")
    with FakeRegistry() as registry:
        lines = block_with("--platform linux/amd64").replace("reg.example.com", registry.host).splitlines()
        kept = [line for line in lines if not line.startswith("layersmith run ")]
        assert len(kept) == len(lines) - 1
        ready = (
            "for arch in amd64 arm64; do layersmith build -q --platform linux/$arch -t web:$arch .; done\n"
        )
        run(ready + "\n".join(kept), shell, project)
        assert ("web", "1.2") in registry.manifests
