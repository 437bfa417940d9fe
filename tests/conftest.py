"""Shared by all tests: markers that skip with a reason when this machine can't run a test."""

from __future__ import annotations

import os
import shutil

import pytest

INTEROP_TOOLS = ("skopeo", "umoci", "docker-registry", "crun", "runc", "git", "mmdebstrap", "gcc")


def pytest_configure(config: pytest.Config) -> None:
    for tool in INTEROP_TOOLS:
        config.addinivalue_line("markers", f"needs_{tool.replace('-', '_')}: needs the program {tool}")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip("needs root: real mounts, device nodes and owners")
    for tool in INTEROP_TOOLS:
        if item.get_closest_marker(f"needs_{tool.replace('-', '_')}") and not shutil.which(tool):
            pytest.skip(f"needs {tool}, which is not installed")
