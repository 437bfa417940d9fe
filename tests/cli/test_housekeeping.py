"""``prune``, ``df``, ``fsck``."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from layersmith.cli.housekeeping import byte_count, moment
from layersmith.errors import UsageError

Load = Callable[..., str]


def test_prune_keeps_what_a_name_needs(cli: Any, load: Load) -> None:
    """Shared layers stay, the rest goes; --dry-run says the same and removes nothing."""
    shared, own = {"shared": b"s" * 5000}, {"own": b"o" * 5000}
    load("keep:1", shared)
    load("drop:1", shared, own)
    (_, layer) = cli("layers", "-q", "drop:1").split()
    cli("rmi", "drop:1")
    before = {path.name for path in (cli.root / "blobs" / "sha256").iterdir()}
    planned = cli("prune", "--dry-run")
    assert layer in planned
    assert {path.name for path in (cli.root / "blobs" / "sha256").iterdir()} == before
    done = cli("prune")
    assert done.split()[-1] == planned.split()[-1]
    assert {path.name for path in (cli.root / "blobs" / "sha256").iterdir()} < before
    assert cli("fsck") == "nothing is wrong\n"


def test_df_adds_up(cli: Any, load: Load) -> None:
    """The table's last row is the sum of what is on disk; JSON has one object a kind."""
    load("web:1", {"a": b"a" * 10000})
    records = [json.loads(line) for line in cli("df", "--format", "json").splitlines()]
    counts = {record["Type"]: record["Count"] for record in records}
    assert (counts["images"], counts["blobs"]) == (1, 3)
    on_disk = sum(counts.values()) - counts["images"] - counts["cache"]
    assert cli("df").splitlines()[-1].split()[:2] == ["total", str(on_disk)]


def test_df_tells_shared_from_unique(cli: Any, load: Load) -> None:
    """What two images need together is shared; what removing one would free is unique; orphans are nobody's."""
    shared, own = {"shared": os.urandom(50_000)}, {"own": os.urandom(30_000)}
    load("one:1", shared)
    load("two:1", shared, own)
    rows = {r["Type"]: r for r in map(json.loads, cli("df", "-v", "--format", "json").splitlines())}
    assert rows["one:1"]["Shared"] == rows["two:1"]["Shared"] > 50_000
    assert rows["two:1"]["Unique"] - rows["one:1"]["Unique"] > 29_000
    cli("rmi", "two:1")
    kinds = {r["Type"]: r for r in map(json.loads, cli("df", "--format", "json").splitlines())}
    assert kinds["blobs"]["Unique"] > 29_000
    cli("prune")
    kinds = {r["Type"]: r for r in map(json.loads, cli("df", "--format", "json").splitlines())}
    assert kinds["blobs"]["Unique"] == 0


def test_fsck_names_a_damaged_blob_and_its_image(cli: Any, load: Load) -> None:
    """Status 7 until it is repaired; then the image that needs it has lost its name, and all is well."""
    load("web:1", {"a": b"a"})
    load("fine:1", {"b": b"b"})
    (layer,) = cli("layers", "-q", "web:1").split()
    (cli.root / "blobs" / "sha256" / layer[7:]).write_bytes(b"garbage")
    found = cli("fsck", status=7)
    assert f"blob {layer}" in found
    assert "image web:1" in found
    assert "(repaired)" in cli("fsck", "--repair")
    assert cli("fsck") == "nothing is wrong\n"
    assert cli("images", "--format", "{{.Repository}}") == "fine\n"


@pytest.mark.parametrize(
    ("text", "count"),
    [("10GB", 10**10), ("1.5k", 1500), ("1KiB", 1024), ("2g", 2 * 10**9), ("7", 7), ("3MiB", 3 << 20)],
)
def test_sizes(text: str, count: int) -> None:
    """Powers of 1000, and of 1024 with an i."""
    assert byte_count(text) == count


def test_ages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Go's durations and days, or a time."""
    monkeypatch.setattr("time.time", lambda: 1_000_000.0)
    assert moment("24h") == 1_000_000 - 86400
    assert moment("1h30m") == 1_000_000 - 5400
    assert moment("1.5d") == 1_000_000 - 129600
    assert moment("1970-01-01T00:01:00Z") == 60


@pytest.mark.parametrize("text", ["", "soon", "-1h", "10 parsecs"])
def test_what_is_neither_size_nor_age(text: str) -> None:
    """An error with an example."""
    with pytest.raises(UsageError) as size:
        byte_count(text)
    with pytest.raises(UsageError) as age:
        moment(text)
    assert "10GB" in size.value.hint
    assert "24h" in age.value.hint


def test_what_prune_and_fsck_list_can_be_json(cli: Any, load: Callable[..., str]) -> None:
    """An object a line, and nothing else on standard output."""
    load("web", {"a": b"content"})
    cli("rmi", "web")
    records = [json.loads(line) for line in cli("prune", "--dry-run", "--format", "json").splitlines()]
    assert {record["Kind"] for record in records} >= {"blob"}
    assert sum(record["Size"] for record in records) > 0
    assert cli("fsck", "--format", "json") == ""
    blob = max((cli.root / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    blob.chmod(0o600)
    blob.write_bytes(b"damaged")
    (found, *_) = [json.loads(line) for line in cli("fsck", "--format", "json", status=7).splitlines()]
    assert blob.name in found["Name"]
    assert found["Repaired"] is False
