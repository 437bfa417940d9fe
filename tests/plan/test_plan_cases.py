"""Golden errors of what parses but can't be planned: tests/cases/unplannable/<topic>/{Buildfiles,expected}.

``Buildfiles`` are several, with ``====`` between them; files beside it are there for INCLUDE.
``UPDATE_CASES=1 pytest tests/plan/test_plan_cases.py`` writes what is expected anew; read the difference before you commit it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from layersmith.buildfile.include import resolve_includes
from layersmith.buildfile.parser import parse
from layersmith.dataclass import replace
from layersmith.errors import LayersmithError, NotFoundError, PlanError
from layersmith.image import SCRATCH, Image
from layersmith.oci.platform import Platform
from layersmith.plan import PlanOptions, plan
from layersmith.plan.mistakes import mistakes

CASES = Path(__file__).parent.parent / "cases" / "unplannable"
AMD64 = Platform("linux", "amd64")
TRIGGERS = {
    "onbuild-from": "FROM x",
    "onbuild-misspelled": "RUM x",
    "onbuild-two": "RUN x\nRUN y",
}
LONG = {
    "bomb": "RUN a\n" * 4_990 + "INCLUDE dozen\n",
    "dozen": "RUN b\n" * 12,
    "many": "INCLUDE none\n" * 1_001,
}
"""Files too long to lie there; and ``deepN`` includes ``deepN+1``."""


class Bases:
    """Images with triggers, and no others."""

    def image(self, name: str, platform: Platform) -> Image:
        if name not in TRIGGERS:
            raise NotFoundError(f"no image {name}")
        base = SCRATCH(platform)
        return replace(base, config=replace(base.config, on_build=(TRIGGERS[name],)))

    def context(self, name: str, platform: Platform) -> None:
        return None


def told(text: str, directory: Path) -> str:
    """How the errors of planning ``text`` read; there must be one, with a place."""

    def read(path: str) -> str | None:
        deep = re.fullmatch(r"deep(\d+)", path)
        if deep:
            return f"INCLUDE deep{int(deep[1]) + 1}\n"
        if path in LONG or path == "none":
            return LONG.get(path, "")
        return (directory / path).read_text() if (directory / path).is_file() else None

    with pytest.raises(LayersmithError) as caught:
        plan(resolve_includes(parse(text), read), PlanOptions(platform=AMD64), Bases())
    parts = []
    for error in (caught.value, *getattr(caught.value, "others", ())):
        assert error.span, f"nobody can find {error.message!r} in\n{text}"
        hint = f"hint: {error.hint}\n" if error.hint else ""
        parts.append(f"{error}\n{hint}{error.span.excerpt(around=0)}\n")
    return "\n".join(parts)


@pytest.mark.parametrize("topic", sorted(path.name for path in CASES.iterdir()))
def test_unplannable(topic: str) -> None:
    """The errors have the expected messages, hints and places."""
    texts = (CASES / topic / "Buildfiles").read_text().split("====\n")
    actual = "\n".join(told(text, CASES / topic) for text in texts)
    expected = CASES / topic / "expected"
    if os.environ.get("UPDATE_CASES"):
        expected.write_text(actual)
    assert actual == expected.read_text()


def test_check_tells_what_no_build_could_plan() -> None:
    """The same errors, without any image; what a variable decides is left to the build, for a base may set it."""
    text = """\
FROM any AS one
EXPOSE http
COPY --from=two / /
ENV A=${B!C}
EXPOSE $PORT
ENV C=${D:?wanted}
RUN --security=insecure true
FROM --platform=a/b/c/d any
FROM any AS two
STOPSIGNAL NONE
"""
    found = mistakes(parse(text), {})
    assert [str(error.span).partition(":")[2] for error in found] == ["2:1", "3:1", "4:1", "8:1", "10:1"]
    assert not mistakes(parse("FROM $NAME\nCOPY --from=$OTHER --chmod=$MODE a b\n"), {})


def test_no_image_is_asked_for_once_the_file_is_wrong() -> None:
    """Nobody waits for a transfer to hear of a misspelling; and what the missing image decides is not judged."""
    asked = []

    class Asked(Bases):
        def image(self, name: str, platform: Platform) -> Image:
            asked.append(name)
            return SCRATCH(platform)

    text = "FROM first AS a\nEXPOSE b\nCOPY --from=second / /\nEXPOSE $PORT\nSTOPSIGNAL d\n"
    with pytest.raises(PlanError) as caught:
        plan(parse(text), PlanOptions(platform=AMD64), Asked())
    assert asked == ["first"]
    assert [error.span.line for error in (caught.value, *caught.value.others) if error.span] == [2, 5]
