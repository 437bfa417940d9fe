"""``layersmith build`` again, with nothing changed: answered without the language, and never wrongly."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from layersmith.cli.build import build_arguments
from layersmith.cli.recalling import APART, NEVER

if TYPE_CHECKING:
    from tests.cli.conftest import Cli
else:
    Cli = Any

CHANGING = frozenset(
    [
        "max_layer_size",
        "context",
        "file",
        "target",
        "build_arg",
        "label",
        "platform",
        "network",
        "add_host",
        "dns",
        "shm_size",
        "ulimit",
        "allow",
        "source_date_epoch",
        "compression",
        "memory",
        "memory_swap",
        "cpus",
        "cpu_shares",
        "cpu_period",
        "cpu_quota",
        "cpuset_cpus",
        "cpuset_mems",
        "pids_limit",
        "cap_add",
        "cap_drop",
        "security_opt",
        "isolation",
    ]
)
"""Flags that are part of the question."""


def test_every_flag_was_thought_of() -> None:
    """A flag changes the image, does not, or makes a build one that is always done."""
    parser = argparse.ArgumentParser()
    build_arguments(parser)
    flags = {action.dest for action in parser._actions} - {"help"}
    assert flags - APART - NEVER == CHANGING
    assert not APART & NEVER


@pytest.fixture
def context(tmp_path: Path) -> Path:
    root = tmp_path / "context"
    root.mkdir()
    (root / "data").write_text("one")
    (root / "unused").write_text("unused")
    (root / "Buildfile").write_text("FROM scratch\nARG A=1\nCOPY data /data-$A\nLABEL a=$A\n")
    return root


def build(cli: Cli, context: Path, *flags: str) -> tuple[str, bool]:
    """The image's digest, and whether the language was loaded for it."""
    env = os.environ | {"LAYERSMITH_ROOT": str(cli.root)}
    command = [sys.executable, "-X", "importtime", "-m", "layersmith", "build", "-q", *flags, str(context)]
    done = subprocess.run(command, capture_output=True, env=env, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return done.stdout.decode().strip(), b"layersmith.buildfile.parser" in done.stderr


def remembered(cli: Cli, context: Path) -> str:
    """Build until the answer is kept: once to fill the cache, once all cached, when the files are old enough."""
    digest, _ = build(cli, context)
    time.sleep(2.1)
    assert build(cli, context) == (digest, True)
    assert build(cli, context) == (digest, False)
    return digest


def test_answers_only_the_same_question(cli: Cli, context: Path) -> None:
    """Edits, flags, variables and removed images lead back to the build itself; a record is kept of all."""
    digest = remembered(cli, context)
    (context / "unused").write_text("edited, and not read")
    assert build(cli, context, "-t", "again", "-t", "more:2") == (digest, False)
    assert {"again:latest", "more:2"} <= set(cli("images", "--format", "{{.Repository}}:{{.Tag}}").split())

    other, loaded = build(cli, context, "--build-arg", "A=2")
    assert loaded and other != digest
    assert build(cli, context, "--no-cache")[1]
    assert build(cli, context, "--label", "b=2")[1]
    assert build(cli, context) == (digest, False)

    status = (context / "data").stat()
    (context / "data").write_text("two")
    os.utime(context / "data", ns=(status.st_atime_ns, status.st_mtime_ns))
    edited, loaded = build(cli, context)
    assert loaded and edited != digest
    (context / ".dockerignore").write_text("nothing")
    assert build(cli, context)[1]


def test_shows_and_records_what_a_cached_build_does(cli: Cli, context: Path) -> None:
    """The same lines, but for the time; and one more build in the store."""
    build(cli, context)
    time.sleep(2.1)
    first = cli.run("build", "--progress=plain", str(context)).stderr
    second = cli.run("build", "--progress=plain", str(context)).stderr
    assert b"CACHED" in first
    assert second.splitlines()[:-2] == first.splitlines()[:-2]
    assert second.splitlines()[-1] == first.splitlines()[-1]
    records = [json.loads(path.read_bytes()) for path in (cli.root / "builds").glob("*/build.json")]
    assert len(records) == 3
    newest = max(records, key=lambda record: record["started"])
    assert [step["outcome"] for step in newest["steps"]] == ["base", "hit"]
    assert newest["result"] == "done"


def test_what_is_gone_is_built(cli: Cli, context: Path) -> None:
    """Missing blobs, a pruned store and a damaged answer are not answered with."""
    digest = remembered(cli, context)
    (answer,) = (cli.root / "recall").iterdir()
    kept = answer.read_bytes()
    answer.write_bytes(kept[:100])
    assert build(cli, context) == (digest, True)
    assert build(cli, context) == (digest, False)
    blob = cli.root / "blobs" / "sha256" / digest.removeprefix("sha256:")
    blob.unlink()
    assert build(cli, context) == (digest, True)
    assert blob.exists()
    cli("prune")
    assert not list((cli.root / "recall").iterdir())
    assert build(cli, context)[1]
