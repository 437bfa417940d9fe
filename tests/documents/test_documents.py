"""The documents: every command block in the guides is run, every link leads somewhere, the lists of flags are complete."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from blocks import blocks, run_script

from layersmith import cli

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
GUIDES = ("cache", "ci", "language", "migration", "python-api", "rootless", "security", "troubleshooting")
ROW = re.compile(r"^\| `(--[a-z0-9-]+)` \| (.*) \|$", re.MULTILINE)
LISTS = {"docker buildx build": "buildx-0.31", "buildah build": "buildah-1.39"}


@pytest.mark.slow
@pytest.mark.parametrize("guide", GUIDES)
def test_every_command_block_runs(guide: str, shell: dict[str, str], tmp_path: Path) -> None:
    """All blocks of a guide, one after the other, in one shell that ends at the first that fails."""
    found = blocks(EXAMPLES / guide / "README.md")
    assert found
    run_script("".join(found), shell, tmp_path)


FENCED = re.compile(r"^```(.*)\n((?:(?!```).*\n)*)```$", re.MULTILINE)


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", *EXAMPLES.glob("*/README.md")], ids=lambda p: p.parent.name
)
def test_commands_stand_in_blocks_that_are_run(path: Path) -> None:
    """Those that say ``sh``: `GUIDES` are run above, other examples and the tour by their own tests, the README's below."""
    text = path.read_text()
    fenced = FENCED.findall(text)
    runs = "console" if path.parent.name == "overlay-tour" else "sh"
    assert len(fenced) == text.count("```") / 2, "a block is fenced otherwise"
    for word, body in fenced:
        assert word == runs or not re.search(r"^\$? ?(layersmith|docker|buildah) ", body, re.MULTILINE)


def test_each_block_of_the_readme_has_its_test() -> None:
    """By a text that is in it alone; the second, which is this very suite, is what CI runs."""
    tests = (Path(__file__).parent / "test_readme.py").read_text()
    named = re.findall(r'block_with\("([^"]+)"\)', tests)
    found = blocks(ROOT / "README.md")
    tested = [block for block in found if any(text in block for text in named)]
    (suite,) = (block for block in found if block not in tested)
    assert "python -m pytest" in suite


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/README.md")), ids=lambda path: path.parent.name)
def test_links_lead_somewhere(path: Path) -> None:
    """Files, and headings of the README."""
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_the_readme_knows_the_guides() -> None:
    """None can be found only by looking for it."""
    text = (ROOT / "README.md").read_text()
    for path in EXAMPLES.glob("*/README.md"):
        assert f"examples/{path.parent.name}/README.md" in text


def our_flags() -> set[str]:
    parser = cli.command_parser("build", importlib.import_module("layersmith.cli.build"))
    return {option for action in parser._actions for option in action.option_strings if option[:2] == "--"}


def table(title: str) -> dict[str, str]:
    """Flag to what stands beside it, of the migration guide's table below a heading that begins so."""
    text = (EXAMPLES / "migration" / "README.md").read_text()
    (section,) = re.findall(rf"^## Every flag of `{title}`.*?(?=^## )", text, re.MULTILINE | re.DOTALL)
    return dict(ROW.findall(section))


@pytest.mark.parametrize("title", LISTS)
def test_the_tables_have_every_flag_and_ours_are_ours(title: str) -> None:
    """A flag that we have is said to be the same, and no other is."""
    listed = (Path(__file__).parent / f"{LISTS[title]}.txt").read_text().split()
    found = table(title)
    assert sorted(found) == sorted(listed)
    ours = our_flags()
    for flag, here in found.items():
        assert here.startswith(f"`{flag}`") == (flag in ours), flag
        for other in re.findall(r"`(--[a-z-]+)[ =`]", here):
            known = {*ours, "--all-platforms", "--until", "--format", "--network", *found}
            assert other in known, f"{flag}: {other}"


def test_flags_of_our_own_are_listed() -> None:
    """What no other builder has, too: together the page has every flag of `build`."""
    text = (EXAMPLES / "migration" / "README.md").read_text()
    own = set(re.findall(r"`(--[a-z-]+)`", text.partition("## Flags that neither has")[2]))
    others = {flag for title in LISTS for flag in table(title)}
    assert own == our_flags() - others - {"--help"}


@pytest.mark.interop
@pytest.mark.parametrize("title", LISTS)
def test_the_recorded_flags_are_the_programs_own(title: str) -> None:
    """Where the program is installed in the very version that was read."""
    words = title.split()
    version = LISTS[title].rpartition("-")[2]
    if shutil.which(words[0]) is None:
        pytest.skip(f"needs {words[0]}")
    said = subprocess.run([*words[:-1], "version"], capture_output=True, text=True).stdout
    if f" {version}" not in said and f":         {version}" not in said:
        pytest.skip(f"needs {words[0]} {version}")
    text = subprocess.run([*words, "--help"], capture_output=True, text=True, check=True).stdout
    found = set(re.findall(r"^ +(?:-\w, )?(--[a-z0-9-]+)", text, re.MULTILINE)) - {"--help"}
    listed = (Path(__file__).parent / f"{LISTS[title]}.txt").read_text().split()
    assert found == set(listed)
