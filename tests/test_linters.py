"""The linters are tests, so that plain ``pytest`` is the whole check. Each is skipped where it is not installed."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def lint(module: str, *words: str) -> None:
    if find_spec(module) is None:
        pytest.skip(f"needs {module}, which is not installed: pip install layersmith[test]")
    done = subprocess.run([sys.executable, "-m", module, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff_finds_nothing() -> None:
    """The rules of pyproject.toml, over the package and its tests."""
    lint("ruff", "check", "--quiet", "--output-format=concise", ".")


def test_ruff_would_format_nothing() -> None:
    """One layout, and nobody argues about it."""
    lint("ruff", "format", "--check", "--quiet", ".")


def test_mypy_finds_nothing() -> None:
    """``--strict`` over the package, as configured in pyproject.toml."""
    lint("mypy")
