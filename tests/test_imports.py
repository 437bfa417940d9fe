"""Who may import whom, and what a start loads: the table of DESIGN "Layout", held by reading every import."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from layersmith.cli import COMMANDS

PACKAGE = Path(__file__).parent.parent / "layersmith"

TABLE = (
    ("__main__", "pytest_plugin"),
    ("cli", "api"),
    ("build", "containers", "recall"),
    ("remotecache",),
    ("bases", "lock", "solve"),
    ("plan", "execute", "transport", "anatomy"),
    ("image",),
    ("layer",),
    ("store",),
    ("ops", "buildfile", "context", "linux"),
    ("progress", "oci"),
    ("errors",),
    ("source",),
    ("dataclass",),
)
"""Arrows point down only: a unit imports from the rows below its own, and from nothing beside itself."""

CONFINED = {
    "dataclasses": "dataclass.py",
    "lark": "buildfile/parser.py",
    "ctypes": "linux/",
    "urllib3": "transport/http.py",
    "zstandard": "layer/compress.py",
    "isal": "layer/compress.py",
    "fsspec": "transport/objects.py",
    "yaml": "transport/config_files.py",
    "sqlite3": ("store/database.py", "anatomy/rpmdb.py"),
    "argparse": "cli/",
    "rich": "cli/",
    "textual": "cli/explorer.py",
    "pytest": "pytest_plugin.py",
}
"""Each dangerous or heavy thing has one place."""

HEAVY = frozenset(
    [
        "lark",
        "urllib3",
        "zstandard",
        "isal",
        "yaml",
        "sqlite3",
        "rich",
        "ssl",
        "asyncio",
        "subprocess",
        "ctypes",
    ]
)


def sources() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import, lazy ones and those for type checkers included."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute here"
            # ``from layersmith import ops`` names a module, too.
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def unit(path: Path) -> str:
    """The row's word for a file: its package, or the name of a module at the top."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def test_the_table_names_every_unit_once() -> None:
    """A new package must take its place before anybody can import it."""
    named = [name for row in TABLE for name in row]
    found = {unit(path) for path in sources()} - {"__init__"}
    assert sorted(named) == sorted(found)


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    """No module imports from its own row's neighbours or from a row above."""
    rank = {name: number for number, row in enumerate(TABLE) for name in row}
    me = unit(path)
    if me == "__init__":
        allowed = set(rank)
    else:
        allowed = {name for name in rank if rank[name] > rank[me]} | {me}
    for line, name in imported(path):
        top, _, rest = name.partition(".")
        other = rest.partition(".")[0]
        if top == "layersmith" and other in rank:
            assert other in allowed, f"{path}:{line}: {me} may not import {other}"


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_modules_are_confined(path: Path) -> None:
    """Lark, ctypes, HTTP, compressors, YAML, SQLite and argparse each have their place."""
    here = path.relative_to(PACKAGE).as_posix()
    for line, name in imported(path):
        place = CONFINED.get(name.partition(".")[0])
        assert place is None or here.startswith(place), f"{path}:{line}: {name} belongs in {place}"


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_command_line_prints_and_exits(path: Path) -> None:
    """A library that prints or exits can't be used by anybody else."""
    if unit(path) in ("cli", "__main__"):
        return
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("print", "input", "exit", "quit", "sys.exit"), (
                f"{path}:{node.lineno}: {called}"
            )


def loaded(code: str) -> set[str]:
    """What ``code`` loads, run in a fresh interpreter, on top of what a bare one has."""
    program = f"import sys\nbefore = set(sys.modules)\n{code}\nprint(*sorted(set(sys.modules) - before), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


def test_version_loads_nothing() -> None:
    """Not even argparse: it is what shells and scripts ask for."""
    found = loaded("sys.argv[1:] = ['--version']\nfrom layersmith.__main__ import main\nmain()")
    assert found <= {"layersmith", "layersmith.__main__", "__future__"}


def test_import_layersmith_loads_nothing() -> None:
    """A program that only might build pays for it when it does; then for nothing that the worker has to load."""
    assert {name for name in loaded("import layersmith") if name.startswith("layersmith")} == {"layersmith"}
    found = {name.partition(".")[0] for name in loaded("import layersmith; layersmith.build")}
    assert not found & (HEAVY - {"subprocess"})


def test_the_function_build_is_not_shadowed_by_the_module() -> None:
    """`layersmith.build` is what one calls, whatever else was imported; the module is found all the same."""
    code = "import layersmith\nfrom layersmith.build import BuildRequest\nassert callable(layersmith.build)"
    assert "layersmith.build" in loaded(code)


def test_the_command_line_loads_nothing_heavy() -> None:
    """Commands import what they need when they run."""
    found = loaded("from layersmith.cli import run\nrun(['--help'])")
    assert not {name.partition(".")[0] for name in found} & HEAVY
    assert {name for name in found if name.startswith("layersmith")} == {
        "layersmith",
        "layersmith.cli",
        "layersmith.dataclass",
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_no_commands_help_loads_anything_heavy(name: str) -> None:
    """``--help`` of each command stays quick."""
    code = f"from layersmith.cli import run\ntry:\n    run([*{name.split()!r}, '--help'])\nexcept SystemExit:\n    pass"
    found = {module.partition(".")[0] for module in loaded(code)}
    assert not found & (HEAVY - {"ctypes", "subprocess"})
