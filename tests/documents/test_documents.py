"""The documents: every command block in the guides is run, every link leads somewhere, the lists of flags are complete."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from program import Layersmith

from layersmith import cli

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
GUIDES = ("cache", "ci", "language", "migration", "python-api", "rootless", "security", "troubleshooting")
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\| `(--[a-z0-9-]+)` \| (.*) \|$", re.MULTILINE)
LISTS = {"docker buildx build": "buildx-0.13", "buildah build": "buildah-1.39"}


EXPECTED = re.compile(r"^(.*?) +# status (\d+)$", re.MULTILINE)


def blocks(path: Path) -> list[str]:
    """The command blocks; a line that ends with ``# status N`` has to end with that status."""
    found = BLOCK.findall(path.read_text())
    return [EXPECTED.sub(r"status=0; \1 || status=$?; test $status = \2", block) for block in found]


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """An environment with a store and a home of its own, in which ``layersmith`` and ``python3`` are these."""
    flags = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    probe = shutil.which("unshare")
    if probe is None or subprocess.run([probe, *flags, "--mount", "--pid", "--fork", "true"]).returncode:
        pytest.skip("needs namespaces, which the kernel refuses here")
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for name, words in (("layersmith", "-m layersmith"), ("python3", "")):
        (bin_ / name).write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
        (bin_ / name).chmod(0o755)
    shutil.copytree(EXAMPLES, tmp_path / "examples", symlinks=True)
    environment = dict(Layersmith.at(tmp_path / "store", tmp_path / "home").environment)
    return environment | {"PATH": f"{bin_}:{environment['PATH']}", "PYTHONPATH": os.fspath(ROOT)}


@pytest.mark.slow
@pytest.mark.parametrize("guide", GUIDES)
def test_every_command_block_runs(guide: str, shell: dict[str, str], tmp_path: Path) -> None:
    """All blocks of a guide, one after the other, in one shell that ends at the first that fails."""
    found = blocks(EXAMPLES / guide / "README.md")
    assert found
    script = "set -eux\n" + "".join(found)
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=shell, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/README.md")), ids=lambda path: path.parent.name)
def test_links_lead_somewhere(path: Path) -> None:
    """Files, and headings of the README."""
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_the_readme_knows_the_guides() -> None:
    """None can be found only by looking for it."""
    text = (ROOT / "README.md").read_text()
    for path in EXAMPLES.glob("*/README.md"):
        assert f"examples/{path.parent.name}/README.md" in text


def test_the_commands_of_the_readme_parse() -> None:
    """Its quick start needs a network to install from and a registry to push to, so its lines are not run here."""
    found = 0
    for line in "\n".join(blocks(ROOT / "README.md")).splitlines():
        for part in re.split(r"&&|\|", line.partition(" #")[0].partition("   ")[0]):
            name, *words = part.split() or [""]
            if name == "layersmith":
                command, rest = cli.command_of(words)
                module = importlib.import_module(f"layersmith.cli.{cli.COMMANDS[command].module}")
                cli.command_parser(command, module).parse_args(rest)
                found += 1
    assert found > 5


def our_flags() -> set[str]:
    parser = cli.command_parser("build", importlib.import_module("layersmith.cli.build"))
    return {option for action in parser._actions for option in action.option_strings if option[:2] == "--"}


def table(title: str) -> dict[str, str]:
    """Flag to what stands beside it, of the migration guide's table below a heading that begins so."""
    text = (EXAMPLES / "migration" / "README.md").read_text()
    (section,) = re.findall(rf"^## Every flag of `{title}`.*?(?=^## )", text, re.MULTILINE | re.DOTALL)
    return dict(ROW.findall(section))


@pytest.mark.parametrize("title", LISTS)
def test_the_tables_have_every_flag_and_ours_are_ours(title: str) -> None:
    """A flag that we have is said to be the same, and no other is."""
    listed = (Path(__file__).parent / f"{LISTS[title]}.txt").read_text().split()
    found = table(title)
    assert sorted(found) == sorted(listed)
    ours = our_flags()
    for flag, here in found.items():
        assert here.startswith(f"`{flag}`") == (flag in ours), flag
        for other in re.findall(r"`(--[a-z-]+)[ =`]", here):
            known = {*ours, "--all-platforms", "--until", "--format", "--network", *found}
            assert other in known, f"{flag}: {other}"


def test_flags_of_our_own_are_listed() -> None:
    """What no other builder has, too: together the page has every flag of `build`."""
    text = (EXAMPLES / "migration" / "README.md").read_text()
    own = set(re.findall(r"`(--[a-z-]+)`", text.partition("## Flags that neither has")[2]))
    others = {flag for title in LISTS for flag in table(title)}
    assert own == our_flags() - others - {"--help"}


@pytest.mark.interop
@pytest.mark.parametrize("title", LISTS)
def test_the_recorded_flags_are_the_programs_own(title: str) -> None:
    """Where the program is installed in the very version that was read."""
    words = title.split()
    version = LISTS[title].rpartition("-")[2]
    if shutil.which(words[0]) is None:
        pytest.skip(f"needs {words[0]}")
    said = subprocess.run([*words[:-1], "version"], capture_output=True, text=True).stdout
    if f" {version}" not in said and f":         {version}" not in said:
        pytest.skip(f"needs {words[0]} {version}")
    text = subprocess.run([*words, "--help"], capture_output=True, text=True, check=True).stdout
    found = set(re.findall(r"^ +(?:-\w, )?(--[a-z0-9-]+)", text, re.MULTILINE)) - {"--help"}
    listed = (Path(__file__).parent / f"{LISTS[title]}.txt").read_text().split()
    assert found == set(listed)


def test_ci_files_call_what_there_is() -> None:
    """YAML that parses, with commands and options that our parsers take."""
    for name in ("github-actions.yml", "gitlab-ci.yml"):
        assert isinstance(yaml.safe_load((EXAMPLES / "ci" / name).read_text()), dict)
    for name in ("github-actions.yml", "gitlab-ci.yml", "Jenkinsfile", "build.sh"):
        text = (EXAMPLES / "ci" / name).read_text()
        for line in re.findall(r"(?<![\w/-])layersmith ((?:login|check|build) .*)", text):
            words = (
                re.sub(r"[\"']\$\{?\w+\}?[\"']|\$@", "WORD", line).replace("'", "").replace('"', "").split()
            )
            parser = cli.command_parser(
                words[0], importlib.import_module(f"layersmith.cli.{cli.COMMANDS[words[0]].module}")
            )
            options = {option for action in parser._actions for option in action.option_strings}
            assert {word for word in words if word.startswith("-")} <= options, line
