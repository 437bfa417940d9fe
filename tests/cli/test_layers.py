"""``inspect``, ``history``, ``layers``, ``diff``: images taken apart, on archives that layersmith did not write."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from unfinished import unfinished

Load = Callable[..., str]

BASE = {
    "bin": None,
    "bin/busybox": b"#!/bin/true\n",
    "bin/echo": "busybox",
    "etc": None,
    "etc/conf": b"one\n",
    "old": None,
    "old/a": b"a",
    "old/b": b"b",
}
UPPER = {
    "bin": None,
    "bin/.wh.echo": b"",
    "bin/say": "busybox",
    "etc": None,
    "etc/conf": b"two\n",
    "old": None,
    "old/.wh..wh..opq": b"",
    "old/new": b"n",
}


def test_inspect_knows_dockers_members(cli: Any, load: Load) -> None:
    """The members that scripts ask docker inspect for are there, also where the image leaves them out."""
    digest = load("web:1", BASE, UPPER, Env=["A=1", "B=two words"], Cmd=["sh"])
    (found,) = json.loads(cli("inspect", "web:1"))
    assert found["Id"] == digest
    assert found["RepoTags"] == ["web:1"]
    assert found["RepoDigests"] == [f"web@{digest}"]
    assert found["Config"]["Env"] == ["A=1", "B=two words"]
    assert (found["Config"]["User"], found["Config"]["Labels"]) == ("", None)
    assert found["Manifest"]["layers"][1]["digest"] == found["Layers"][1]["Digest"]
    assert found["RootFS"]["Layers"] == [layer["DiffID"] for layer in found["Layers"]]
    assert [layer["CreatedBy"] for layer in found["Layers"]] == ["RUN step 1", "RUN step 2"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("{{.Config.Env}}", "[A=1 B=2]"),
        ("{{json .Config.Cmd}}", '["sh","-c"]'),
        ('{{range .Config.Env}}{{.}}{{"\\n"}}{{end}}', "A=1\nB=2\n"),
        ('{{index .Config.Labels "org.example.tier"}}', "front"),
        ("{{.Config.User}}", ""),
        (".Config.Env[-1]", "B=2"),
        ('$.Config.Labels["org.example.tier"]', "front"),
        (".RootFS.Type", "layers"),
    ],
)
def test_inspect_format(cli: Any, load: Load, wanted: str, expected: str) -> None:
    """Go templates as docker's users write them, and JSON paths."""
    load("web:1", BASE, Env=["A=1", "B=2"], Cmd=["sh", "-c"], Labels={"org.example.tier": "front"})
    assert cli("inspect", "--format", wanted, "web:1") == expected + "\n"


def test_inspect_format_names_the_nearest_member(cli: Any, load: Load) -> None:
    """A misspelled member is an error, not an empty line."""
    load("web:1", BASE)
    assert "did you mean Config?" in cli.error("inspect", "-f", "{{.Confg.Env}}", "web:1", status=2)


def test_inspect_raw_prints_the_manifest_itself(cli: Any, load: Load) -> None:
    """Byte by byte: hashing it gives the digest."""
    import hashlib

    digest = load("web:1", BASE)
    raw = cli.run("inspect", "--raw", "web:1").stdout
    assert "sha256:" + hashlib.sha256(raw).hexdigest() == digest


def test_history_is_latest_first_and_sizes_are_the_blobs(cli: Any, load: Load) -> None:
    """Every line of the config's history, with the layer that it made."""
    load("web:1", BASE, UPPER)
    records = [json.loads(line) for line in cli("history", "--format", "json", "web:1").splitlines()]
    assert [record["CreatedBy"] for record in records] == ["CMD", "RUN step 2", "RUN step 1"]
    assert [record["EmptyLayer"] for record in records] == [True, False, False]
    blobs = cli.root / "blobs" / "sha256"
    assert [record["Size"] for record in records[1:]] == [
        (blobs / record["Layer"][7:]).stat().st_size for record in records[1:]
    ]
    assert cli("history", "-q", "web:1").split() == [record["Layer"] for record in records[1:]]


def test_history_shortens_only_where_asked(cli: Any, load: Load) -> None:
    """A table cuts digests; --no-trunc does not."""
    load("web:1", BASE)
    layer = cli("history", "-q", "web:1").strip()
    assert layer[7:19] in cli("history", "web:1")
    assert layer not in cli("history", "web:1")
    assert layer in cli("history", "--no-trunc", "web:1")


def test_layers_count_files_and_whiteouts(cli: Any, load: Load) -> None:
    """What a layer adds or replaces, what it deletes, and how large its files are."""
    load("web:1", BASE, UPPER)
    first, second = [json.loads(line) for line in cli("layers", "--format", "json", "web:1").splitlines()]
    assert (first["Number"], first["Files"], first["Deleted"]) == (1, len(BASE), 0)
    assert first["UnpackedSize"] == sum(len(v) for v in BASE.values() if isinstance(v, bytes))
    # bin, say, etc, conf, old, new; the opaque mark is a property of old.
    assert (second["Number"], second["Files"], second["Deleted"]) == (2, 6, 1)
    assert first["Digest"] in cli("layers", "--no-trunc", "web:1")


def test_diff_of_a_layer(cli: Any, load: Load) -> None:
    """Added, changed and deleted paths; an opaque directory's old content is deleted one by one."""
    load("web:1", BASE, UPPER)
    assert cli("diff", "--layer", "2", "web:1").splitlines() == [
        "C /bin",
        "D /bin/echo",
        "A /bin/say",
        "C /etc",
        "C /etc/conf",
        "C /old",
        "D /old/a",
        "D /old/b",
        "A /old/new",
    ]
    assert cli("diff", "--layer", "-1", "web:1") == cli("diff", "--layer", "2", "web:1")
    assert "the image has 2" in cli.error("diff", "--layer", "3", "web:1", status=5)


def test_diff_is_against_the_base_in_the_store(cli: Any, load: Load) -> None:
    """Without --layer: all layers above the largest image that this one begins with, or else all of them."""
    load("web:1", BASE, UPPER, {"new": b"x"})
    assert cli("diff", "web:1").count("A ") == len(cli("diff", "web:1").splitlines())
    load("base:1", BASE)
    assert "A /new" in cli("diff", "web:1").splitlines()
    assert "D /bin/echo" in cli("diff", "web:1").splitlines()
    load("middle:1", BASE, UPPER)
    assert cli("diff", "web:1") == "A /new\n"


def test_diff_of_two_images_compares_contents(cli: Any, load: Load) -> None:
    """A file of another layer, but with the same content, is no difference; one with the same size may be."""
    load("one:1", {"same": b"same", "size": b"aaaa", "gone": b"x", "link": "same"})
    load("two:1", {"same": b"same", "link": "same"}, {"size": b"bbbb", "added": b"y"})
    assert cli("diff", "one:1", "two:1").splitlines() == ["A /added", "D /gone", "C /size"]
    assert cli("diff", "two:1", "one:1").splitlines() == ["D /added", "A /gone", "C /size"]
    assert cli("diff", "one:1", "one:1") == ""


def test_diff_escapes_hostile_names(cli: Any, load: Load) -> None:
    """A file's name must not reach the terminal as commands; JSON has it whole."""
    load("web:1", {"a\x1b[2Jb": b"", "c\nA forged": b""})
    assert cli("diff", "web:1") == "A /a\\x1b[2Jb\nA /c\\nA forged\n"
    found = [json.loads(line)["Path"] for line in cli("diff", "--format", "json", "web:1").splitlines()]
    assert found == ["/a\x1b[2Jb", "/c\nA forged"]


@pytest.mark.root
def test_diff_raw_shows_both_forms_of_a_whiteout(cli: Any, load: Load) -> None:
    """On disk a character device 0:0 and an opaque attribute; in the tar .wh. files."""
    load("web:1", BASE, UPPER)
    disk, tar = cli("diff", "--raw", "--layer", "2", "web:1").split("in the tar")
    assert [line.split("#")[1].strip() for line in disk.splitlines() if "#" in line] == [
        "deletes /bin/echo",
        "hides all below /old in lower layers",
    ]
    device = next(line.split() for line in disk.splitlines() if " bin/echo" in line)
    assert device[0].startswith("c")
    assert device[2:5] == ["0,", "0", "bin/echo"]
    assert "trusted.overlay.opaque=y" in disk
    assert "bin/.wh.echo   # deletes /bin/echo" in tar
    assert "old/.wh..wh..opq   # hides all below /old in lower layers" in tar


@pytest.mark.root
def test_mount_is_live_and_leaves_nothing(cli: Any, load: Load) -> None:
    """What is done in merged shows in upper; afterwards neither mount nor directory is left, and the image is the same."""
    before = load("web:1", BASE, UPPER)
    script = 'echo hi >merged/new && rm merged/bin/say && find upper -printf "%y %P\\n" && cat $MERGED/etc/conf; ls lower'
    lines = cli("mount", "web:1", "--", "sh", "-c", script).splitlines()
    assert sorted(lines) == sorted(["d ", "f new", "d bin", "c bin/say", "two", "1", "2"])
    with open("/proc/self/mounts") as mounts:
        assert str(cli.root) not in mounts.read()
    assert unfinished(cli.root) == []
    assert cli("images", "-q") == f"{before}\n"
    assert "D /bin/say" not in cli("diff", "web:1")


@pytest.mark.root
def test_mount_gives_the_status_of_its_command(cli: Any, load: Load) -> None:
    """As a shell gives it; a command that is not there is an error with a name."""
    load("web:1", BASE)
    cli("mount", "web:1", "--", "sh", "-c", "exit 7", status=7)
    cli("mount", "web:1", "--", "sh", "-c", "kill -9 $$", status=137)
    assert "can't run nosuch" in cli.error("mount", "web:1", "--", "nosuch", status=8)
