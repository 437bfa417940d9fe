"""Golden Buildfiles: tests/cases/{accepted,rejected}/<name>/{Buildfile,expected}.

``UPDATE_CASES=1 pytest tests/buildfile/test_cases.py`` writes what is expected anew; read the difference before you commit it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from layersmith.buildfile.format import fmt
from layersmith.buildfile.lint import LintOptions, lint
from layersmith.buildfile.parser import parse, stages
from layersmith.dataclass import fields, is_dataclass
from layersmith.errors import BuildfileSyntaxError

CASES = Path(__file__).parent.parent / "cases"
ACCEPTED = sorted(path.name for path in (CASES / "accepted").iterdir())
REJECTED = sorted(path.name for path in (CASES / "rejected").iterdir())


def brief(value: Any) -> str:
    """Like repr, without the fields that have their default or are not part of the value."""
    if isinstance(value, tuple):
        return "(" + ", ".join(map(brief, value)) + ")"
    if not is_dataclass(value):
        return repr(value)
    given = (
        f"{field.name}={brief(getattr(value, field.name))}"
        for field in fields(value)
        if field.compare and getattr(value, field.name) != field.default
    )
    return f"{type(value).__name__}({', '.join(given)})"


def compare(directory: Path, actual: str) -> None:
    expected = directory / "expected"
    if os.environ.get("UPDATE_CASES"):
        expected.write_bytes(actual.encode("utf-8", "surrogateescape"))
    assert actual == expected.read_bytes().decode("utf-8", "surrogateescape")


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(name: str) -> None:
    """Its instructions, what `check` says with the strictest dialect, and its canonical form are as expected."""
    text = (CASES / "accepted" / name / "Buildfile").read_bytes()
    buildfile = parse(text)
    globals_, found = stages(buildfile)
    lines = [brief(buildfile.directives), *map(brief, globals_)]
    for stage in found:
        lines += ["", brief(stage.from_), *(f"  {brief(instruction)}" for instruction in stage.instructions)]
    lines += ["", "== check"]
    for finding in lint(buildfile, LintOptions(dialect="dockerfile")):
        lines.append(f"{finding.span}: {finding.level}: {finding.message} [{finding.rule}]")
    formatted = fmt(text)
    if formatted.encode("utf-8", "surrogateescape") != text:
        lines += ["", "== fmt", formatted]
    compare(CASES / "accepted" / name, "\n".join(lines).rstrip("\n") + "\n")


@pytest.mark.parametrize("name", REJECTED)
def test_rejected(name: str) -> None:
    """Its errors have the expected messages, hints and places."""
    text = (CASES / "rejected" / name / "Buildfile").read_bytes()
    with pytest.raises(BuildfileSyntaxError) as caught:
        stages(parse(text))
    parts = []
    for error in (caught.value, *caught.value.others):
        assert error.span
        hint = f"hint: {error.hint}\n" if error.hint else ""
        parts.append(f"{error}\n{hint}{error.span.excerpt(around=0)}\n")
    compare(CASES / "rejected" / name, "\n".join(parts))
