"""``layersmith check`` and ``layersmith fmt``: what is said about a Buildfile without building it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from layersmith.errors import BuildfileError, BuildfileSyntaxError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from layersmith.buildfile.instructions import Buildfile
    from layersmith.buildfile.rules import Finding

CHECK_EXAMPLES = """\
examples:
  layersmith check                                check ./Buildfile (or Dockerfile, or Containerfile)
  layersmith check --format github Dockerfile     annotations for a GitHub workflow
  layersmith check --dialect dockerfile .         errors for what docker build does not know

exit status: 0 nothing, or only warnings; 1 an error, or with --error-on warning anything; 3 it does not parse,
or can't be built whatever its base images hold
"""

FMT_EXAMPLES = """\
examples:
  layersmith fmt                   rewrite ./Buildfile (or Dockerfile, or Containerfile) in the canonical style
  layersmith fmt --check --diff .  change nothing; show what would change, and exit with 1 if anything would
  layersmith fmt - < Dockerfile    from standard input to standard output
"""


def check_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("files", nargs="*", default=["."], metavar="BUILDFILE|DIR|-", help="what to check (default: .)")
    add("--format", choices=("text", "json", "sarif", "github"), default="text", help="how to print findings")
    add(
        "--error-on",
        choices=("error", "warning"),
        default="error",
        help="the level that makes it exit with 1",
    )
    add(
        "--dialect",
        choices=("layersmith", "dockerfile"),
        default="layersmith",
        help="dockerfile: extensions of the language are errors",
    )
    add("--build-arg", action="append", default=[], metavar="NAME=VALUE", help="as given to build")


def check(args: argparse.Namespace) -> int:
    """Look for mistakes in Buildfiles. What can't be built is a finding, too, and does not keep the next file from being read."""
    from layersmith.buildfile.rules import error_finding
    from layersmith.cli.request import build_args_of
    from layersmith.plan.mistakes import mistakes

    build_args = build_args_of(args.build_arg)
    findings: list[Finding] = []
    errors: list[BuildfileError] = []
    for name in args.files:
        try:
            buildfile, found = _findings(name, args.dialect, build_args)
            findings += found
            if buildfile is not None:
                errors += mistakes(buildfile, build_args)
        except BuildfileSyntaxError as error:
            errors += (error, *error.others)
    if args.format != "text":
        findings += map(error_finding, errors)
    sys.stdout.write(_FORMATS[args.format](findings))
    if errors and args.format == "text":
        errors[0].others = tuple(errors[1:])
        raise errors[0]
    if errors:
        return BuildfileSyntaxError.exit_code
    failing = {"error"} if args.error_on == "error" else {"error", "warning"}
    return 1 if any(finding.level in failing for finding in findings) else 0


def _findings(
    name: str, dialect: str, build_args: Mapping[str, str]
) -> tuple[Buildfile | None, tuple[Finding, ...]]:
    """Of the Buildfile at or in ``name``, which is returned, too, where it is a whole one. Raises `BuildfileSyntaxError`."""
    from layersmith.buildfile.lint import LintOptions, lint
    from layersmith.buildfile.parser import parse

    text, shown, directory = read(name)
    buildfile = parse(text, shown)
    complete = whole(buildfile, Path(name), shown)
    ignored = _ignored(directory, shown)
    return complete, lint(buildfile, LintOptions(dialect=dialect, build_args=build_args, ignored=ignored))


def whole(buildfile: Buildfile, given: Path, shown: str) -> Buildfile | None:
    """With what it includes; None where that can't be told. Raises `BuildfileSyntaxError` where no image can come of it.

    What is included may be anywhere in a context that only a directory tells; and a file of another name without FROM
    may be one that others include.
    """
    from layersmith.buildfile.instructions import From, Include
    from layersmith.buildfile.parser import stages
    from layersmith.cli.request import BUILDFILES

    kinds = {type(instruction) for instruction in buildfile.instructions}
    if Include in kinds and given.is_dir():
        from layersmith.build import included
        from layersmith.context import Context

        context = Context.open(given, buildfile=Path(shown))
        buildfile = included(buildfile, context, Path(shown).name)
    elif Include in kinds or (From not in kinds and Path(shown).name not in BUILDFILES):
        return None
    stages(buildfile)
    return buildfile


def _ignored(directory: Path | None, shown: str) -> Callable[[str], bool] | None:
    """Whether the context's ignore rules hide a path; None where that can't be told from the path alone."""
    if directory is None:
        return None
    from layersmith.context import Context

    ignore = Context.open(directory, buildfile=Path(shown)).ignore
    if ignore is None or any(rule.pattern.startswith("!") for rule in ignore.rules):
        return None
    return ignore.hides


def read(name: str) -> tuple[bytes, str, Path | None]:
    """The text of the Buildfile at or in ``name``, what to call it, and its context's directory."""
    if name == "-":
        return sys.stdin.buffer.read(), "<stdin>", None
    from layersmith.cli.request import find_buildfile

    path = find_buildfile(Path(name))
    try:
        return path.read_bytes(), str(path), path.parent
    except OSError as error:
        raise UsageError(f"can't read {path}: {error.strerror}") from None


def _text(findings: Iterable[Finding]) -> str:
    parts = []
    for finding in findings:
        more = f" ({finding.url})" if finding.url else ""
        parts.append(f"{finding.span}: {finding.level}: {finding.rule}: {finding.message}{more}\n")
        parts.append(finding.span.excerpt(around=0) + "\n")
    return "".join(parts)


def _plain(finding: Finding) -> dict[str, object]:
    span = finding.span
    return {
        "rule": finding.rule,
        "level": finding.level,
        "message": finding.message,
        "description": finding.description,
        "url": finding.url,
        "file": span.source.name,
        "line": span.line,
        "column": span.column,
        "end_line": span.end_line,
        "end_column": span.end_column,
    }


def _json(findings: Iterable[Finding]) -> str:
    return json.dumps([_plain(finding) for finding in findings], indent=2) + "\n"


def _github(findings: Iterable[Finding]) -> str:
    """Workflow commands of GitHub Actions."""
    lines = []
    for finding in findings:
        span = finding.span
        file = _github_text(span.source.name).replace(":", "%3A").replace(",", "%2C")
        place = f"file={file},line={span.line},col={span.column},endLine={span.end_line}"
        lines.append(f"::{finding.level} {place},title={finding.rule}::{_github_text(finding.message)}\n")
    return "".join(lines)


def _github_text(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _sarif(findings: list[Finding]) -> str:
    """SARIF 2.1.0."""
    from layersmith import __version__

    rules = {finding.rule: finding for finding in findings}
    described = [
        {
            "id": name,
            "shortDescription": {"text": rule.description},
            **({"helpUri": rule.url} if rule.url else {}),
        }
        for name, rule in rules.items()
    ]
    results = [
        {
            "ruleId": finding.rule,
            "level": finding.level,
            "message": {"text": finding.message},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": _uri(finding.span.source.name)},
                        "region": {
                            "startLine": finding.span.line,
                            "startColumn": finding.span.column,
                            "endLine": finding.span.end_line,
                            "endColumn": finding.span.end_column,
                        },
                    }
                }
            ],
        }
        for finding in findings
    ]
    tool = {"driver": {"name": "layersmith", "version": __version__, "rules": described}}
    document = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": tool, "results": results}],
    }
    return json.dumps(document, indent=2) + "\n"


def _uri(name: str) -> str:
    """A relative reference stays one, for a viewer knows where the checkout is (SARIF 3.4.4)."""
    from urllib.parse import quote

    return Path(name).as_uri() if name.startswith("/") else quote(name)


_FORMATS = {"text": _text, "json": _json, "github": _github, "sarif": _sarif}


def fmt_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("files", nargs="*", default=["."], metavar="BUILDFILE|DIR|-", help="what to format (default: .)")
    add("--check", action="store_true", help="change nothing; exit with 1 if something would change")
    add("--diff", action="store_true", help="print what changes")


def fmt(args: argparse.Namespace) -> int:
    """Format Buildfiles."""
    from layersmith.buildfile.format import fmt as formatted

    changed = False
    for name in args.files:
        before, shown, _ = read(name)
        after = formatted(before, shown)
        old = before.decode("utf-8", "surrogateescape")
        if name == "-" and not (args.check or args.diff):
            sys.stdout.write(after)
            continue
        if after == old:
            continue
        changed = True
        if args.diff:
            import difflib

            sys.stdout.writelines(
                difflib.unified_diff(
                    old.splitlines(keepends=True),
                    after.splitlines(keepends=True),
                    shown,
                    f"{shown} (formatted)",
                )
            )
        elif args.check:
            print(f"{shown} would change")
        if not args.check and name != "-":
            _replace(Path(shown), after)
    return 1 if changed and args.check else 0


def _replace(path: Path, text: str) -> None:
    """Write beside the file, then rename: nobody ever sees half a Buildfile, and its mode stays."""
    target = path.resolve()
    beside = target.with_name(f".{target.name}.layersmith")
    beside.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")
    beside.chmod(target.stat().st_mode & 0o7777)
    beside.replace(target)
