"""A shell in which the documents' commands are run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from program import Layersmith

ROOT = Path(__file__).parents[2]


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
    shutil.copytree(ROOT / "examples", tmp_path / "examples", symlinks=True)
    environment = dict(Layersmith.at(tmp_path / "store", tmp_path / "home").environment)
    return environment | {"PATH": f"{bin_}:{environment['PATH']}", "PYTHONPATH": os.fspath(ROOT)}
