"""``layersmith check`` and ``layersmith fmt``, and what a build says of its Buildfile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

WARNED = "FROM scratch as base\nMAINTAINER me\n"
"""With two findings, both warnings."""
EXTENDED = "FROM scratch\nUNSET ENV a\n"
BROKEN = "FROM scratch\nCOPPY a b\nRUM c\n"
UNTIDY = "from  scratch\n\n\ncopy a \\\n  b \\\n# why\n c/\n"
TIDY = "FROM scratch\n\nCOPY a \\\n    b \\\n    # why\n    c/\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Where the commands run: a file of each kind."""
    for name, text in (
        ("clean", "FROM scratch\nCOPY a /\n"),
        ("warned", WARNED),
        ("extended", EXTENDED),
        ("broken", BROKEN),
        ("untidy", UNTIDY),
    ):
        (tmp_path / name).write_text(text)
    return tmp_path


# check


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["clean"], 0),
        (["warned"], 0),
        (["--error-on", "warning", "warned"], 1),
        (["--error-on=warning", "clean"], 0),
        (["extended"], 0),
        (["--dialect", "dockerfile", "extended"], 1),
        (["--dialect=dockerfile", "warned"], 0),
        (["broken"], 3),
        (["--format", "json", "broken"], 3),
        (["missing"], 2),
        (["--error-on", "info", "clean"], 2),
        (["--build-arg", "=x", "clean"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
@pytest.mark.usefixtures("project")
def test_the_status_says_how_bad_it_is(cli: Any, words: list[str], status: int) -> None:
    """0 nothing or warnings, 1 errors, 3 no Buildfile at all, 2 wrong words."""
    cli("check", *words, status=status)


@pytest.mark.usefixtures("project")
def test_text_shows_the_place_the_rule_and_the_line(cli: Any) -> None:
    """For a person: one line to click on, with the rule's page, and the line of the file."""
    first, line, *_ = cli("check", "warned").splitlines()
    assert first == (
        "warned:1:1: warning: FromAsCasing: 'as' and 'FROM' keywords' casing do not match "
        "(https://docs.docker.com/go/dockerfile/rule/from-as-casing/)"
    )
    assert line.split("|") == [">>>    1 ", " FROM scratch as base"]


@pytest.mark.usefixtures("project")
def test_json_has_all_of_a_finding(cli: Any) -> None:
    """An array, empty where there is nothing."""
    found = json.loads(cli("check", "--format", "json", "clean", "warned"))
    assert [(each["file"], each["line"], each["rule"], each["level"]) for each in found] == [
        ("warned", 1, "FromAsCasing", "warning"),
        ("warned", 2, "MaintainerDeprecated", "warning"),
    ]
    assert found[1]["message"] == "Maintainer instruction is deprecated in favor of using label"
    assert json.loads(cli("check", "--format=json", "clean")) == []


@pytest.mark.usefixtures("project")
def test_sarif_names_each_rule_once(cli: Any) -> None:
    """Version 2.1.0: a run, its tool's rules, and results that refer to them."""
    document = json.loads(cli("check", "--format", "sarif", "warned", "extended", "broken", status=3))
    assert document["version"] == "2.1.0"
    (run,) = document["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert sorted(rules) == ["FromAsCasing", "MaintainerDeprecated", "SyntaxError"]
    results = [(result["ruleId"], result["level"]) for result in run["results"]]
    assert results == [
        ("FromAsCasing", "warning"),
        ("MaintainerDeprecated", "warning"),
        ("SyntaxError", "error"),
        ("SyntaxError", "error"),
    ]
    place = run["results"][2]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"] == {"uri": "broken"}
    assert place["region"] == {"startLine": 2, "startColumn": 1, "endLine": 2, "endColumn": 6}


def test_github_annotations_are_escaped(cli: Any, project: Path) -> None:
    """A file's name may hold what separates a workflow command's properties."""
    (project / "a, b: 100%").write_text("FROM x AS Bad\n")
    assert cli("check", "--format", "github", "a, b: 100%") == (
        "::warning file=a%2C b%3A 100%25,line=1,col=1,endLine=1,title=StageNameCasing::"
        "Stage name 'Bad' should be lowercase\n"
    )
    assert cli("check", "--format", "github", "broken", status=3).splitlines() == [
        "::error file=broken,line=2,col=1,endLine=2,title=SyntaxError::"
        "unknown instruction: COPPY (did you mean COPY?)",
        "::error file=broken,line=3,col=1,endLine=3,title=SyntaxError::"
        "unknown instruction: RUM (did you mean RUN?)",
    ]


@pytest.mark.usefixtures("project")
def test_every_mistake_of_every_file_is_told_at_once(cli: Any) -> None:
    """A file that does not parse keeps no other from being checked."""
    done = cli.run("check", "broken", "warned")
    assert done.returncode == 3
    assert b"FromAsCasing" in done.stdout
    for said in (b"COPPY", b"did you mean COPY?", b"RUM", b"did you mean RUN?"):
        assert said in done.stderr


def test_directives_and_skip_lists_are_honoured(cli: Any, project: Path) -> None:
    """``# check=`` at the top for the file, before an instruction for that one; ``error=true`` makes errors."""

    def rules(text: str, status: int = 0) -> list[str]:
        (project / "file").write_text(text)
        return [each["rule"] for each in json.loads(cli("check", "--format=json", "file", status=status))]

    assert rules(WARNED) == ["FromAsCasing", "MaintainerDeprecated"]
    assert rules("# check=skip=FromAsCasing\n" + WARNED) == ["MaintainerDeprecated"]
    assert rules("# check=skip=all\n" + WARNED) == []
    assert rules("FROM scratch\n# check=skip=MaintainerDeprecated\nMAINTAINER a\nCMD b\n") == [
        "JSONArgsRecommended"
    ]
    assert rules("# check=error=true\n" + WARNED, status=1) == ["FromAsCasing", "MaintainerDeprecated"]


def test_an_ignored_source_is_found(cli: Any, project: Path) -> None:
    """By the .dockerignore of the directory that the Buildfile lies in."""
    (project / "Dockerfile").write_text("FROM scratch\nCOPY secret /\n")
    (project / ".dockerignore").write_text("secret\n")
    assert "CopyIgnoredFile" in cli("check", ".")


def test_what_can_give_no_image_is_an_error(cli: Any, project: Path) -> None:
    """No FROM, something before it, or an INCLUDE of nothing; a fragment of another name needs none."""
    (project / "Buildfile").write_text("ENV a=b\n")
    assert "ENV stands before the first FROM" in cli.error("check", status=3)
    (project / "Buildfile").write_text("FROM scratch\nINCLUDE parts/one\n")
    assert "INCLUDE of 'parts/one', which is not in the context" in cli.error("check", status=3)
    (project / "parts").mkdir()
    (project / "parts/one").write_text("ENV a=b\n")
    assert cli("check") == cli("check", "parts/one") == ""
    (project / "parts/one").write_text("INCLUDE ../Buildfile\n")
    assert "Buildfile → parts/one → Buildfile" in cli.error("check", status=3)


def test_standard_input(cli: Any) -> None:
    """As ``-``."""
    assert cli("check", "-", stdin=WARNED.encode()).startswith("<stdin>:1:1: warning: FromAsCasing")


# fmt


def test_fmt_rewrites_in_place(cli: Any, project: Path) -> None:
    """Once; then there is nothing to do. The file's mode stays, and a link to it is still one."""
    path = project / "untidy"
    path.chmod(0o640)
    (project / "link").symlink_to("untidy")
    assert cli("fmt", "link") == ""
    assert path.read_text() == TIDY
    assert path.stat().st_mode & 0o777 == 0o640
    assert (project / "link").is_symlink()
    before = path.stat().st_ino
    assert cli("fmt", "link") == ""
    assert path.stat().st_ino == before, "what is tidy is not written"
    assert not [name for name in os.listdir(project) if name.endswith(".layersmith")]


def test_fmt_check_and_diff_change_nothing(cli: Any, project: Path) -> None:
    """``--check`` says which files would change, and ``--diff`` how."""
    assert cli("fmt", "--check", "clean", "untidy", status=1) == "untidy would change\n"
    assert cli("fmt", "--check", "clean") == ""
    diff = cli("fmt", "--check", "--diff", "clean", "untidy", status=1)
    assert diff.startswith("--- untidy\n+++ untidy (formatted)\n@@ ")
    assert "\n-from  scratch\n" in diff
    assert "\n+FROM scratch\n" in diff
    assert (project / "untidy").read_text() == UNTIDY


def test_fmt_of_standard_input(cli: Any) -> None:
    """To standard output; with ``--check`` only the status."""
    assert cli("fmt", "-", stdin=UNTIDY.encode()) == TIDY
    cli("fmt", "--check", "-", stdin=UNTIDY.encode(), status=1)
    cli("fmt", "--check", "-", stdin=TIDY.encode())


def test_fmt_leaves_alone_what_it_can_not_read(cli: Any, project: Path) -> None:
    """Every mistake, and the file as it was."""
    error = cli.error("fmt", "broken", status=3)
    assert "COPPY" in error
    assert "RUM" in error
    assert (project / "broken").read_text() == BROKEN
    assert "is neither a Buildfile nor a directory" in cli.error("fmt", "missing", status=2)


def test_a_formatted_file_builds_the_same(cli: Any, project: Path) -> None:
    """No step of it has to run again."""
    for name in "ab":
        (project / name).write_text(name)
    cli("build", "-f", "untidy", ".")
    cli("fmt", "untidy")
    assert "1 cached" in cli.run("build", "-f", "untidy", ".").stderr.decode()


# What a build says


def test_a_build_that_runs_something_shows_the_findings(cli: Any, project: Path) -> None:
    """As warnings, at its end; a build that has all from the cache does not look for them."""
    (project / "Dockerfile").write_text(WARNED + "COPY clean /\n")
    first = cli.run("build", ".").stderr.decode()
    assert "warning: Dockerfile:1:1: FromAsCasing: " in first
    assert "warning: Dockerfile:2:1: MaintainerDeprecated: " in first
    again = cli.run("build", "--label", "a=b", ".").stderr.decode()
    assert "1 cached" in again
    assert "FromAsCasing" not in again


def test_a_cached_build_does_not_load_the_check(cli: Any, project: Path) -> None:
    """Nor what only mistakes need: the name is new to `recall`, so the Buildfile is read and planned."""
    (project / "Dockerfile").write_text(WARNED + "COPY clean /\n")
    cli("build", ".")
    program = (
        "import sys\nfrom layersmith.cli import run\n"
        "assert run(['build', '--label', 'a=b', '.']) == 0\nprint(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=project,
        env=os.environ | {"LAYERSMITH_ROOT": str(cli.root), "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    loaded = done.stdout.split()
    assert "1 cached" in done.stderr
    assert "layersmith.buildfile.parser" in loaded
    assert not {"layersmith.buildfile.lint", "layersmith.buildfile.rules", "difflib"} & {*loaded}


def test_an_unset_variable_is_told_once_with_the_nearest(cli: Any, project: Path) -> None:
    """The plan knows it better than the check does, for it has the base image's environment."""
    (project / "Dockerfile").write_text("FROM scratch\nENV VERSION=1\nCOPY clean /$VERSOIN\n")
    said = cli.run("build", ".").stderr.decode()
    assert "warning: Dockerfile:3:1: the variable $VERSOIN is not set (did you mean $VERSION?)" in said
    assert said.count("VERSOIN") == said.count("COPY clean /$VERSOIN") + 1


def test_a_buildfile_may_come_through_a_pipe(cli: Any, project: Path) -> None:
    """``-f <(…)``: it can be read only once."""
    fifo = project / "pipe"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_text, args=("FROM scratch\nCOPY clean /\n",))
    writer.start()
    assert "COPY clean /" in cli.run("build", "-f", "pipe", ".").stderr.decode()
    writer.join(10)


@pytest.mark.usefixtures("project")
def test_a_build_argument_has_a_name(cli: Any) -> None:
    """``--build-arg =x`` sets nothing, and is a mistake of whoever wrote it."""
    error = cli.error("build", "--build-arg", "=x", "-f", "clean", ".", status=2)
    assert "invalid --build-arg '=x'" in error
