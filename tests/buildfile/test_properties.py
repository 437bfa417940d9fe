"""Properties of any text; tests/benchmarks/fuzz_buildfile.py looks at them for longer."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from layersmith.buildfile.format import fmt
from layersmith.buildfile.lint import LintOptions, lint
from layersmith.buildfile.parser import parse
from layersmith.buildfile.unparse import unparse
from layersmith.errors import BuildfileSyntaxError
from layersmith.source import Span

SETTINGS = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def inside(span: Span | None) -> bool:
    """Does the span lie in its text? The end is exclusive, and may show the line's end."""
    if span is None:
        return False
    lines = span.source.text.split("\n")
    return (
        1 <= span.line <= span.end_line <= len(lines)
        and 1 <= span.column <= len(lines[span.line - 1]) + 1
        and 1 <= span.end_column <= len(lines[span.end_line - 1]) + 2
        and (span.line, span.column) <= (span.end_line, span.end_column)
    )


@SETTINGS
@given(data=st.data())
def test_any_text_parses_or_is_a_syntax_error_in_the_file(
    data: st.DataObject, nearly_buildfiles: st.SearchStrategy[str]
) -> None:
    """No other exception leaves the parser, and every span is inside the text."""
    text = data.draw(nearly_buildfiles)
    try:
        buildfile = parse(text)
    except BuildfileSyntaxError as error:
        assert all(inside(each.span) for each in (error, *error.others))
        return
    assert all(inside(instruction.span) for instruction in buildfile.instructions)


@SETTINGS
@given(data=st.data())
def test_printing_formatting_and_checking_what_parses(
    data: st.DataObject, nearly_buildfiles: st.SearchStrategy[str]
) -> None:
    """Printed and formatted it parses to the same, formatting settles at once, and lint has no trouble with it."""
    text = data.draw(nearly_buildfiles)
    try:
        buildfile = parse(text)
    except BuildfileSyntaxError:
        return
    assert parse(unparse(buildfile)) == buildfile
    formatted = fmt(text)
    assert parse(formatted) == buildfile
    assert fmt(formatted) == formatted
    assert all(inside(found.span) for found in lint(buildfile, LintOptions(dialect="dockerfile")))
