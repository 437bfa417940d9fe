"""``verify``: the examples are bit-identical wherever they are built; what is not reproducible is told, path by path."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from program import Layersmith

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = sorted(path.parent.name for path in EXAMPLES.glob("*/Buildfile"))
LARGE = {"c-scratch": "debian:gcc", "python-web": "debian:python"}
PROGRAMS = ("sh", "cat", "chmod", "cp", "grep", "ln", "ls", "mkdir", "mv", "rm", "sed", "tail", "touch")

ONE = {"TZ": "UTC", "LC_ALL": "C", "PYTHONHASHSEED": "1"}
OTHER = {"TZ": "Pacific/Chatham", "LC_ALL": "C.UTF-8", "LANG": "de_DE.UTF-8", "PYTHONHASHSEED": "2"}


@pytest.fixture
def file_systems(tmp_path: Path) -> Iterator[dict[str, Path]]:
    """A fresh ext4 and btrfs, each on a loop device, and a tmpfs."""
    made: dict[str, Path] = {}
    try:
        for kind in ("ext4", "btrfs", "tmpfs"):
            place = tmp_path / kind
            place.mkdir()
            if kind == "tmpfs":
                subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2g", "tmpfs", place], check=True)
            else:
                if not shutil.which(f"mkfs.{kind}"):
                    pytest.skip(f"needs mkfs.{kind}, which is not installed")
                image = tmp_path / f"{kind}.image"
                with image.open("wb") as file:
                    file.truncate(3 << 30)
                subprocess.run([f"mkfs.{kind}", "-q", image], check=True)
                mounted = subprocess.run(
                    ["mount", "-o", "loop", image, place], capture_output=True, text=True
                )
                if mounted.returncode:
                    pytest.skip(f"this kernel mounts no {kind} from a file: {mounted.stderr.strip()}")
            made[kind] = place
        yield made
    finally:
        for place in made.values():
            subprocess.run(["umount", place], check=True)


def same_everywhere(example: str, ours: Layersmith, places: dict[str, Path], *flags: str) -> None:
    """Built on ext4 with one CPU; again on btrfs and on tmpfs with all of them, another umask, language and time zone."""
    context = EXAMPLES / example
    one_cpu = ("taskset", "--cpu-list", str(min(os.sched_getaffinity(0))))
    build = ("build", "-t", "example", "--source-date-epoch", "1600000000", *flags, context)
    ours(*build, before=one_cpu, umask=0o022, **ONE)
    for kind in ("btrfs", "tmpfs"):
        again = ("verify", "--format", "json", "--in", places[kind] / "again", *flags, "example", context)
        verdict = json.loads(ours(*again, umask=0o077, timeout=300, **OTHER).stdout)
        assert verdict["identical"], verdict
        (platform,) = verdict["platforms"]
        assert all(layer["identical"] for layer in platform["layers"])
        assert platform["config"] == []


@pytest.mark.root
@pytest.mark.parametrize("example", [name for name in SMALL if name not in LARGE])
def test_small_examples_are_bit_identical_everywhere(
    example: str, layersmith: Layersmith, file_systems: dict[str, Path]
) -> None:
    """On bases of this machine's programs."""
    ours = layersmith.with_store(file_systems["ext4"] / "store")
    programs = [name for name in PROGRAMS if shutil.which(name)]
    ours("import", "--host", *programs, "base")
    ours("tag", "base", "tour-base")
    same_everywhere(example, ours, file_systems)


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.needs_mmdebstrap
@pytest.mark.parametrize("example", sorted(LARGE))
def test_large_examples_are_bit_identical_everywhere(
    example: str, tools: Layersmith, file_systems: dict[str, Path], tmp_path: Path
) -> None:
    """On Debian, with a compiler and with Python."""
    archive = tmp_path / "base.tar"
    tools("export", LARGE[example], "-o", archive)
    ours = tools.with_store(file_systems["ext4"] / "store")
    ours("load", archive, timeout=300)
    archive.unlink()
    same_everywhere(example, ours, file_systems)


def test_a_buildfile_that_is_not_reproducible(layersmith: Layersmith, base: str, context: Path) -> None:
    """Every path that differs is named, with what differs in it; the layers below are still the same."""
    (context / "Buildfile").write_text(
        "FROM base\nCOPY Buildfile /\n"
        "RUN cat /proc/sys/kernel/random/uuid > /random && touch /steady /only-$(cat /random)\n"
    )
    told = layersmith("verify", context, status=1)
    assert "layer 1" in told.stdout
    assert "2 of 3 layers are bit-identical: not reproducible" in told.stdout
    verdict = json.loads(layersmith("verify", "--format", "json", context, status=1).stdout)
    (platform,) = verdict["platforms"]
    assert [layer["identical"] for layer in platform["layers"]] == [True, True, False]
    found = {(each["path"], each["what"]) for each in platform["layers"][2]["differences"]}
    assert ("random", "content") in found
    assert {what for path, what in found if path.startswith("only-")} == {"only"}
    assert not any(path == "steady" for path, _ in found)


def test_an_image_is_verified_as_the_store_remembers_it(
    layersmith: Layersmith, base: str, context: Path, tmp_path: Path
) -> None:
    """Context, Buildfile, target and epoch are the build's own; a changed context shows."""
    (context / "f").write_text("one")
    (context / "web.build").write_text(
        "FROM base AS first\nCOPY f /\nRUN cat f > g\nFROM first\nRUN touch /no\n"
    )
    layersmith(
        *("build", "-t", "web", "--target", "first", "--source-date-epoch", "1600000000"),
        *("-f", context / "web.build", context),
    )
    assert "3 of 3 layers are bit-identical" in layersmith("verify", "web").stdout
    (context / "f").write_text("two")
    told = layersmith("verify", "web", status=1).stdout
    assert "f content: sha256:" in told
    assert "1 of 3 layers" in told


def test_an_image_whose_base_has_changed(layersmith: Layersmith, context: Path) -> None:
    """The layers above it are still told one by one."""

    def make_base(text: str) -> None:
        (context / "f").write_text(text)
        (context / "base.build").write_text("FROM scratch\nCOPY f /\n")
        layersmith("build", "-t", "below", "-f", context / "base.build", context)

    make_base("one")
    (context / "g").write_text("g")
    (context / "Buildfile").write_text("FROM below\nCOPY g /\n")
    layersmith("build", "-t", "web", context)
    make_base("two")
    told = layersmith("verify", "web", status=1)
    assert "another base image" in told.stderr
    assert "f content" in told.stdout
    assert "1 of 2 layers" in told.stdout


def test_an_image_of_which_nothing_is_known_needs_a_context(
    layersmith: Layersmith, base: str, context: Path, tmp_path: Path
) -> None:
    """Such as one that was pulled; compression and epoch are told by the image itself."""
    (context / "Buildfile").write_text("FROM base\nRUN echo x > y\n")
    epoch = ("--source-date-epoch", "1600000000")
    layersmith(
        "build",
        "-t",
        "web",
        "--compression",
        "gzip",
        *epoch,
        "-o",
        f"type=oci,dest={tmp_path / 'web'}",
        context,
    )
    layersmith("load", tmp_path / "web", "--name", "loaded")
    other = layersmith.with_store(tmp_path / "other")
    other("load", tmp_path / "web", "--name", "loaded")
    failed = other("verify", "loaded", status=5)
    assert "verify loaded CONTEXT" in failed.stderr
    assert "2 of 2 layers are bit-identical" in layersmith("verify", "loaded", context).stdout
    assert "makes no sense" in layersmith("verify", "-t", "x", "loaded", context, status=2).stderr


@pytest.mark.usefixtures("base")
def test_all_platforms_of_an_index_are_verified(
    layersmith: Layersmith, context: Path, import_base: Callable[[Layersmith], None]
) -> None:
    """Each layer of each; nothing of it has to be executed here."""
    (context / "Buildfile").write_text("FROM scratch\nARG TARGETARCH\nCOPY Buildfile /for-$TARGETARCH\n")
    layersmith("build", "-t", "both", "--platform", "linux/amd64,linux/arm64", context)
    told = layersmith("verify", "both").stdout.splitlines()
    assert [line.split()[0] for line in told] == ["linux/amd64", "linux/arm64", "both:"]
    assert "2 of 2 layers are bit-identical" in told[-1]
