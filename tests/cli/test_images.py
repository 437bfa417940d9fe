"""``images``, ``tag``, ``rmi``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Load = Callable[..., str]


def test_images_of_nothing(cli: Any, tmp_path: Path) -> None:
    """Before anything was stored, the list is empty and no store is made; a wrong --root is an error."""
    assert cli("images") == "REPOSITORY   TAG   IMAGE ID   CREATED   SIZE\n"
    assert not cli.root.exists()
    assert "there is no store" in cli.error("--root", str(tmp_path / "typo"), "images", status=7)


def test_images_lists_names_by_name(cli: Any, load: Load) -> None:
    """Every name is a row with its tag and the beginning of its digest; columns are aligned."""
    web = load("web:1", {"a": b"a"})
    app = load("registry.example:5000/team/app:2", {"b": b"b"})
    header, *rows = cli("images").splitlines()
    assert [row.split()[:3] for row in rows] == [
        ["registry.example:5000/team/app", "2", app[7:19]],
        ["web", "1", web[7:19]],
    ]
    assert [row[header.index("TAG")] for row in rows] == ["2", "1"]
    assert {len(row) for row in (header, *rows)} == {len(header)}
    assert cli("images", "-q") == f"{app}\n{web}\n"


def test_images_as_json_has_sizes_in_bytes_and_rfc3339_times(cli: Any, load: Load) -> None:
    """One object a line, whose size is that of the blobs."""
    digest = load("web:1", {"a": b"a"}, Labels={"tier": "front"})
    (record,) = [json.loads(line) for line in cli("images", "--format", "json").splitlines()]
    blobs = sum(path.stat().st_size for path in (cli.root / "blobs" / "sha256").iterdir())
    assert (record["Repository"], record["Tag"], record["ID"]) == ("web", "1", digest)
    assert record["CreatedAt"] == "2023-11-14T22:13:20.123456789Z"
    assert record["Size"] == blobs
    assert record["Labels"] == {"tier": "front"}


def test_images_filters(cli: Any, load: Load) -> None:
    """By name, with wildcards; by label; by having no name at all."""
    load("web:1", {"a": b"a"}, Labels={"tier": "front"})
    load("db:1", {"b": b"b"}, Labels={"tier": "back"})
    layout = cli.root.parent / "layout"
    cli("export", "db:1", "-o", f"{layout}/")
    index = json.loads((layout / "index.json").read_text())
    del index["manifests"][0]["annotations"]
    (layout / "index.json").write_text(json.dumps(index))
    names = ["--format", "{{.Repository}}:{{.Tag}}"]
    assert cli("images", "web", *names) == "web:1\n"
    assert cli("images", "*b*", *names) == "db:1\nweb:1\n"
    assert cli("images", "--filter", "label=tier=back", *names) == "db:1\n"
    assert cli("images", "--filter", "dangling=true", "-q") == ""
    digest = cli("images", "-q", "db")
    cli("rmi", "db:1")
    assert cli("load", "-q", str(layout)) == digest
    assert cli("images", "--filter", "dangling=true", "-q") == digest
    assert cli("images", "--filter", "dangling=false", *names) == "web:1\n"
    assert "invalid --filter" in cli.error("images", "--filter", "colour=red", status=2)


def test_images_shows_a_damaged_image_with_its_problem(cli: Any, load: Load) -> None:
    """One damaged image must not hide the others."""
    digest = load("broken:1", {"a": b"a"})
    load("fine:1", {"b": b"b"})
    (cli.root / "blobs" / "sha256" / digest[7:]).write_bytes(b"{}")
    done = cli.run("images", "--format", "{{.Repository}} {{.Size}}")
    assert done.returncode == 0
    assert done.stdout.decode().splitlines()[0] == "broken <no value>"
    assert done.stdout.decode().splitlines()[1].startswith("fine ")
    assert "warning: broken:1: " in done.stderr.decode()


def test_labels_cannot_write_escapes_to_the_terminal(cli: Any, load: Load) -> None:
    """Whoever made an image chose its labels; JSON has them whole, but as ASCII."""
    load("web:1", {"a": b"a"}, Labels={"x": "\x1b[2J"})
    assert "\x1b" not in cli("inspect", "web:1")
    assert "\x1b" in json.loads(cli("inspect", "web:1"))[0]["Config"]["Labels"]["x"]


def test_tag_and_rmi(cli: Any, load: Load) -> None:
    """A tag is another name of the same image; the image goes with its last name, and its blobs with a prune."""
    digest = load("web:1", {"a": b"a"})
    cli("tag", "web:1", "web", "other:2")
    assert cli("images", "-q") == f"{digest}\n"
    assert cli("rmi", "web", "other:2") == "Untagged: web:latest\nUntagged: other:2\n"
    assert cli("rmi", "web:1") == f"Untagged: web:1\nDeleted: {digest}\n"
    assert cli("images", "-q") == ""
    assert any((cli.root / "blobs" / "sha256").iterdir())
    cli("prune")
    assert not any((cli.root / "blobs" / "sha256").iterdir())


def test_rmi_by_digest(cli: Any, load: Load) -> None:
    """The beginning of a digest is enough; several names need --force."""
    digest = load("web:1", {"a": b"a"})
    cli("tag", digest[7:19], "web:2")
    assert "web:1, web:2" in cli.error("rmi", digest[7:19], status=2)
    assert cli("rmi", digest[7:19], "-f") == f"Untagged: web:1\nUntagged: web:2\nDeleted: {digest}\n"


def test_rmi_goes_on_after_an_error(cli: Any, load: Load) -> None:
    """What can be removed is removed, and the status is that of what could not; with --force it is no error."""
    load("web:1", {"a": b"a"})
    done = cli.run("rmi", "nothing", "web:1")
    assert done.returncode == 5
    assert b"Untagged: web:1" in done.stdout
    assert b"no image 'nothing' in the store" in done.stderr
    cli("rmi", "--force", "nothing")


def test_tag_refuses_what_is_no_name(cli: Any, load: Load) -> None:
    """Names are checked before they get into the index."""
    load("web:1", {"a": b"a"})
    assert "lower-case" in cli.error("tag", "web:1", "Web", status=2)
    assert "no image 'gone'" in cli.error("tag", "gone", "web:2", status=5)


def test_several_images_without_a_name_come_last(cli: Any, load: Load, tmp_path: Path) -> None:
    """As builds without -t leave them."""
    digests = []
    for number in range(2):
        layout = tmp_path / f"layout-{number}"
        digests.append(load("web:1", {"a": bytes([number])}))
        cli("export", "web:1", "-o", f"{layout}/")
        cli("rmi", "-f", digests[-1])
        index = json.loads((layout / "index.json").read_text())
        for entry in index["manifests"]:
            del entry["annotations"]
        (layout / "index.json").write_text(json.dumps(index))
        cli("load", str(layout))
    load("web:1", {"b": b"b"})
    listed = cli("images", "--no-trunc", "--format", "{{.Repository}} {{.Digest}}").splitlines()
    assert listed[0].startswith("web ")
    assert [line.strip() for line in listed[1:]] == sorted(digests)
