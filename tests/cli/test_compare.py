"""``diff --by``: two images by layer, package, config and file."""

from __future__ import annotations

import json
from collections.abc import Callable

BASE = {"lib/apk/db/installed": b"P:musl\nV:1\n\nP:zlib\nV:1\n"}
NEXT = {"lib/apk/db/installed": b"P:musl\nV:2\n\nP:zlib\nV:1\n", "new": b"x"}


def test_by_all(cli: Callable[..., str], load: Callable[..., str]) -> None:
    """Shared layers, changed packages, settings that came and went, files."""
    load("a:1", BASE, {"old": b"1"}, Env=["A=1", "B=2"], Labels={"x": "1"})
    load("a:2", BASE, NEXT, Env=["A=1", "B=3"], User="me")
    lines = [line.split() for line in cli("diff", "--by", "all", "a:1", "a:2").splitlines()]
    short = [(words[0], words[1], *([] if words[0] == "layer" else words[2:])) for words in lines]
    assert short == [
        ("layer", "="),
        ("layer", "D"),
        ("layer", "A"),
        ("package", "C", "apk", "musl", "1", "→", "2"),
        ("config", "C", "Env.B", "2", "→", "3"),
        ("config", "D", "Labels.x", "1"),
        ("config", "A", "User", "me"),
        ("file", "C", "/lib/apk/db/installed"),
        ("file", "A", "/new"),
        ("file", "D", "/old"),
    ]


def test_as_json(cli: Callable[..., str], load: Callable[..., str]) -> None:
    """An object a line, that says what it is about."""
    load("a:1", BASE)
    load("a:2", BASE, NEXT)
    lines = cli("diff", "--by", "all", "--format", "json", "a:1", "a:2").splitlines()
    records = [json.loads(line) for line in lines]
    assert {record["Of"] for record in records} == {"layer", "package", "file"}
    (package,) = [record for record in records if record["Of"] == "package"]
    assert package == {
        "Of": "package", "Kind": "C", "Manager": "apk", "Name": "musl", "Before": "1", "After": "2", "Place": ""
    }  # fmt: skip


def test_one_image_can_not_be_compared(cli: Callable[..., str], load: Callable[..., str]) -> None:
    """With what?"""
    load("a:1", BASE)
    assert "IMAGE2" in cli.error("diff", "--by", "layer", "a:1", status=2)  # type: ignore[attr-defined]
