"""``report`` and ``explore`` from the command line: of real builds, and what they say where they can't."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from layersmith.dataclass import replace


@pytest.mark.root
def test_the_report_of_a_real_build(cli: Callable[..., str], tmp_path: Path) -> None:
    """Timeline, causes, layers, waste and the Buildfile's lines, in one file that names no other."""
    (tmp_path / "Buildfile").write_text("FROM base\nCOPY big /big\nRUN echo gone > /big\n")
    (tmp_path / "big").write_bytes(b"x" * 50_000)
    cli("import", "--host", "sh", "base")
    cli("build", "-q", "-t", "web", ".")
    assert cli("report", "-o", "page.html").strip() == "page.html"
    text = (tmp_path / "page.html").read_text()
    assert 'data-step="2"' in text
    assert 'id="L3"' in text
    assert "/big" in text.partition('id="waste"')[2]
    assert "50.0kB" in text.partition('id="waste"')[2]
    assert "there is no earlier step like it" in text
    assert "http://" not in text
    assert "https://" not in text
    assert cli("report", "web", "-o", "-") == text


@pytest.mark.root
def test_steps_of_an_included_file_are_linked_to_its_lines(cli: Callable[..., str], tmp_path: Path) -> None:
    """The file is on the page below the Buildfile, with what ran of it."""
    (tmp_path / "Buildfile").write_text("FROM base\nINCLUDE common\nRUN echo own > /own\n")
    (tmp_path / "common").write_text("# shared\nRUN echo common > /common\n")
    cli("import", "--host", "sh", "base")
    cli("build", "-q", ".")
    text = cli("report", "-o", "-")
    assert '<a href="#L1-2">common:2</a>' in text
    assert '<span id="L1-2">   2  RUN echo common &gt; /common' in text
    assert '<a href="#L3">line 3</a>' in text
    assert 'id="L2"' in text


@pytest.mark.root
def test_what_came_before_and_after_the_steps(cli: Callable[..., str], tmp_path: Path) -> None:
    """The base's layer was unpacked; a later push is on the timeline as if it had followed at once."""
    from layersmith.cli.pages.timeline import bars, duration
    from layersmith.store import Store
    from layersmith.transport.registry.fake import FakeRegistry

    (tmp_path / "Buildfile").write_text("FROM base\nRUN echo > /x\n")
    cli("import", "--host", "sh", "base")
    with FakeRegistry() as registry:
        cli("push", "-q", "base", f"{registry.host}/base")
        cli("rmi", "base")
        cli("prune", "--all")
        (tmp_path / "Buildfile").write_text(f"FROM {registry.host}/base\nRUN echo > /x\n")
        cli("build", "-q", "-t", "app", ".")
        cli("push", "-q", "app", f"{registry.host}/app")
    with Store.open(tmp_path / "store") as store:
        build = store.builds.find("app")
    moved = sorted(build.moved, key=lambda move: move.started)
    assert moved[0].direction == "pull"
    assert {"pull", "unpack", "push"} == {move.direction for move in moved}
    hours = [replace(move, started=move.started + 9e3, finished=move.finished + 9e3) for move in moved[-1:]]
    late = replace(build, moved=(*moved[:-1], *hours))
    assert duration(late) < duration(build) + 2
    assert {bar.kind for bar in bars(late) if bar.step is None} == {"pulled", "unpacked", "pushed"}


@pytest.mark.root
def test_the_report_of_a_failed_build(cli: Callable[..., str], tmp_path: Path) -> None:
    """It has no image; the error is on it."""
    (tmp_path / "Buildfile").write_text("FROM base\nRUN exit 3\n")
    cli("import", "--host", "sh", "base")
    cli("build", "-q", ".", status=4)
    text = cli("report", "-o", "-")
    assert "exit code: 3" in text
    assert 'id="layers"' not in text


def test_a_build_that_is_not_there(cli: Callable[..., str]) -> None:
    """Says so."""
    cli("load", "-q", status=6)
    assert "builds" in cli.error("report", "nosuch", status=5)  # type: ignore[attr-defined]


def test_a_buildfile_that_changed_is_not_shown(tmp_path: Path) -> None:
    """Lines of another text under a step's number would be a lie: then only what the record has is shown."""
    from layersmith.cli.report import texts_of
    from layersmith.oci.digest import digest_of
    from layersmith.store.build_record import Build, BuildStep

    path = tmp_path / "Buildfile"
    steps = (BuildStep(0, "FROM base", "FROM base", line=1), BuildStep(1, "RUN x", "RUN x", line=3))
    path.write_text("FROM base\n# why\nRUN x\n")
    build = Build("k", 0.0, buildfile=str(path), text_digest=digest_of(path.read_bytes()), steps=steps)
    assert texts_of(build) == {str(path): [(1, "FROM base"), (2, "# why"), (3, "RUN x")]}
    path.write_text("# new\nFROM base\nRUN x\n")
    assert texts_of(build) == {str(path): [(1, "FROM base"), (3, "RUN x")]}
    path.unlink()
    assert texts_of(build) == {str(path): [(1, "FROM base"), (3, "RUN x")]}


def test_explores_figures(cli: Callable[..., str], load: Callable[..., str]) -> None:
    """Bytes that are never seen, and dive's efficiency."""
    load("web:1", {"a": b"x" * 100, "b": b"y" * 300}, {".wh.a": b""})
    figures = json.loads(cli("explore", "web:1", "--format", "json"))
    assert (figures["Size"], figures["Wasted"], figures["Efficiency"]) == (400, 100, 0.75)
    assert figures["WastedFiles"] == [{"Path": "/a", "Size": 100, "Layer": 1, "GoneInLayer": 2}]
    assert [layer["Deleted"] for layer in figures["Layers"]] == [0, 1]


def test_explore_needs_a_terminal(cli: Callable[..., str], load: Callable[..., str]) -> None:
    """And says what to do without one."""
    load("web:1", {"a": b"x"})
    assert "--html" in cli.error("explore", "web:1", status=2)  # type: ignore[attr-defined]
    assert cli("explore", "web:1", "--html", "-").startswith("<!DOCTYPE html>")


def test_without_textual_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a traceback."""
    import importlib.util

    from layersmith.cli.explore import _check_terminal
    from layersmith.errors import UsageError

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError) as raised:
        _check_terminal()
    assert "layersmith[explore]" in raised.value.hint
