from __future__ import annotations

from pathlib import Path

import pytest

from layersmith.buildfile.format import fmt
from layersmith.buildfile.lint import lint
from layersmith.buildfile.parser import parse, stages

EXAMPLES = sorted((Path(__file__).parent.parent.parent / "examples").glob("*/Buildfile"))


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.parent.name for path in EXAMPLES])
def test_examples_are_in_the_style_that_we_recommend(path: Path) -> None:
    """They parse, `check` has nothing to say, and `fmt` nothing to do."""
    text = path.read_text()
    buildfile = parse(text)
    if "INCLUDE" not in text:
        stages(buildfile)
    assert lint(buildfile) == ()
    assert fmt(text) == text
