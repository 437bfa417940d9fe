"""For tests of the Python API: a store with a small base image, made once."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from program import Layersmith

import layersmith

PROGRAMS = ("sh", "cat", "sleep", "wc")


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> layersmith.Store:
    """A store with the image ``base``; skips where the kernel lets this user have no namespaces."""
    flags = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    probe = shutil.which("unshare")
    if probe is None or subprocess.run([probe, *flags, "--mount", "--pid", "--fork", "true"]).returncode:
        pytest.skip("needs namespaces, which the kernel refuses here")
    directory = tmp_path_factory.mktemp("api")
    Layersmith.at(directory / "store", directory / "home")("import", "--host", *PROGRAMS, "base")
    return layersmith.Store(directory / "store")


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """A directory with a Buildfile."""
    directory = tmp_path / "context"
    directory.mkdir()
    (directory / "Buildfile").write_text(
        "FROM base\nARG WHO=world\nRUN echo hello $WHO >/said\nCMD cat /said\n"
    )
    return directory
