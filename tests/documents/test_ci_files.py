"""The files for CI services: their steps are run in order, twice, on two machines that share what the service keeps."""

from __future__ import annotations

import importlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from blocks import run_script

from layersmith import cli
from layersmith.transport.registry.fake import FakeRegistry

CI = Path(__file__).parents[2] / "examples" / "ci"
HELLO = CI.parent / "hello"
USER, TOKEN = "builder", "a secret"


class Service:
    """A CI service with its registry, whose runners are machines without a store, a home or credentials."""

    def __init__(self, registry: FakeRegistry, shell: dict[str, str], directory: Path) -> None:
        self.registry = registry
        self.shell = shell
        self.directory = directory
        self.runs = 0
        for name in ("pip", "sudo"):  # layersmith is installed, and the kernel is as it is
            (directory / "bin" / name).write_text("#!/bin/sh\n")
            (directory / "bin" / name).chmod(0o755)

    def machine(self, **environment: str) -> dict[str, str]:
        """The environment of a fresh one."""
        self.runs += 1
        home = self.directory / f"home-{self.runs}"
        home.mkdir()
        root = self.directory / f"store-{self.runs}"
        return self.shell | {"HOME": os.fspath(home), "LAYERSMITH_ROOT": os.fspath(root)} | environment

    def checkout(self) -> Path:
        """The project as a fresh clone: an example whose base lies in the registry."""
        project = self.directory / f"checkout-{self.runs}"
        shutil.copytree(HELLO, project)
        shutil.copy(CI / "build.sh", project)
        buildfile = project / "Buildfile"
        buildfile.write_text(
            buildfile.read_text().replace("ARG BASE=base", f"ARG BASE={self.registry.host}/base")
        )
        return project

    def step(self, script: str, machine: dict[str, str], project: Path) -> str:
        """What a step says; it has to succeed."""
        said = "".join(run_script(script, machine, project, options="-e"))
        assert TOKEN not in said
        return said


@pytest.fixture
def service(shell: dict[str, str], tmp_path: Path) -> Iterator[Service]:
    with FakeRegistry(basic=(USER, TOKEN)) as registry:
        made = Service(registry, shell, tmp_path)
        machine = made.machine(TOKEN=TOKEN)
        script = f"""
            echo "$TOKEN" | layersmith login -u {USER} --password-stdin {registry.host}
            layersmith import --host sh cat chmod base --source-date-epoch 0
            layersmith tag base {registry.host}/base
            layersmith push {registry.host}/base
        """
        made.step(script, machine, tmp_path)
        yield made


def hits(said: str) -> bool:
    """Whether nothing ran: all of the build came from the cache."""
    assert "built sha256:" in said, said
    (counted,) = re.findall(r"\d+ steps? in [^;]*;", said)
    return "cached" in counted and "ran" not in counted


@pytest.mark.slow
def test_github_actions(service: Service) -> None:
    """The second run of the workflow, on another machine with the cache of the first, runs no step."""
    text = (CI / "github-actions.yml").read_text().replace("ghcr.io", service.registry.host)
    (job,) = yaml.safe_load(text)["jobs"].values()
    values = {
        "secrets.GITHUB_TOKEN": TOKEN,
        "github.ref == 'refs/heads/main' && '1' || ''": "1",
    }
    cached = [
        step["with"]["path"] for step in job["steps"] if step.get("uses", "").startswith("actions/cache@")
    ]
    for number in (1, 2):
        machine = service.machine(
            GITHUB_ACTOR=USER, GITHUB_REPOSITORY="Acme/Hello", GITHUB_SHA=f"{number}" * 40
        )
        project = service.checkout()
        for path in cached:
            if (kept := service.directory / path).exists():
                shutil.copytree(kept, project / path)
        said = ""
        for step in job["steps"]:
            if "run" in step:
                given = {
                    name: re.sub(r"\$\{\{ (.*?) \}\}", lambda found: values[found[1]], str(value))
                    for name, value in step.get("env", {}).items()
                }
                said = service.step(step["run"], machine | given, project)
        assert hits(said) == (number == 2), said
        for path in cached:
            shutil.copytree(project / path, service.directory / path, dirs_exist_ok=True)
        assert ("acme/hello", f"{number}" * 12) in service.registry.manifests


@pytest.mark.slow
def test_gitlab_ci(service: Service) -> None:
    """The same with a cache in the registry."""
    job = yaml.safe_load((CI / "gitlab-ci.yml").read_text())["build"]
    image = f"{service.registry.host}/acme/hello"
    for number in (1, 2):
        machine = service.machine(
            CI_REGISTRY=service.registry.host,
            CI_REGISTRY_USER=USER,
            CI_REGISTRY_PASSWORD=TOKEN,
            CI_REGISTRY_IMAGE=image,
            CI_COMMIT_BRANCH="main",
            CI_DEFAULT_BRANCH="main",
            CI_COMMIT_SHORT_SHA=f"{number}" * 8,
        )
        given = {name: value.replace("$CI_REGISTRY_IMAGE", image) for name, value in job["variables"].items()}
        script = "\n".join([*job["before_script"], *job["script"]])
        said = service.step(script, machine | given, service.checkout())
        assert hits(said) == (number == 2), said
        assert ("acme/hello", f"{number}" * 8) in service.registry.manifests


def test_ci_files_call_what_there_is() -> None:
    """Commands and options that our parsers take, in the files for services that are not imitated here, too."""
    for name in ("github-actions.yml", "gitlab-ci.yml", "Jenkinsfile", "build.sh"):
        text = (CI / name).read_text()
        for line in re.findall(r"(?<![\w/-])layersmith ((?:login|check|build) .*)", text):
            words = (
                re.sub(r"[\"']\$\{?\w+\}?[\"']|\$@", "WORD", line).replace("'", "").replace('"', "").split()
            )
            parser = cli.command_parser(
                words[0], importlib.import_module(f"layersmith.cli.{cli.COMMANDS[words[0]].module}")
            )
            options = {option for action in parser._actions for option in action.option_strings}
            assert {word for word in words if word.startswith("-")} <= options, line
