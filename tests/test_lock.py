"""Lock files: what they hold, what they look like, and how plans are held to them."""

from __future__ import annotations

from pathlib import Path

import pytest

from layersmith import ops
from layersmith.buildfile.parser import parse
from layersmith.errors import NotFoundError, PlanError, UsageError
from layersmith.image import SCRATCH, Image
from layersmith.lock import Lock, LockedBases, Resolvers, at_commit, lock_path, make_lock, pinned
from layersmith.oci.platform import Platform
from layersmith.plan import PlanOptions, plan

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64")
ONE = "sha256:" + "1" * 64
TWO = "sha256:" + "2" * 64
COMMIT = "a" * 40
EMPTY = Lock({}, {}, {})

TEXT = """\
ARG BASE=debian
FROM $BASE:bookworm AS unused
RUN no
FROM tools-${TARGETARCH}
COPY --from=docker.io/library/extra /a /
ADD https://example.com/a.tar /
ADD --checksum=sha256:1111111111111111111111111111111111111111111111111111111111111111 https://example.com/b.tar /
ADD https://example.com/repo.git#main:sub /repo
ADD https://example.com/repo.git#aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa /fixed
FROM pinned@sha256:1111111111111111111111111111111111111111111111111111111111111111
"""


class Everything:
    """Bases that have every image, and note how each was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def image(self, name: str, platform: Platform) -> Image:
        self.asked.append(name)
        return SCRATCH(platform)

    def context(self, name: str, platform: Platform) -> Image | ops.ContextInput | None:
        return ops.ContextInput(name) if name == "given" else None


def resolvers(image: str = ONE) -> Resolvers:
    return Resolvers(lambda _: image, lambda _: ONE, lambda _: COMMIT)


def test_a_lock_has_all_stages_names_and_no_more() -> None:
    """Also those of stages that the target does not need, for each platform; nothing that says itself what it means."""
    bases = Everything()
    lock = make_lock(parse(TEXT), PlanOptions(), (AMD64, ARM64), bases, resolvers())
    assert lock.images == {
        "debian:bookworm": ONE,
        "tools-amd64:latest": ONE,
        "tools-arm64:latest": ONE,
        "extra:latest": ONE,
    }
    assert lock.urls == {"https://example.com/a.tar": ONE}
    assert lock.git == {"https://example.com/repo.git#main:sub": COMMIT}
    assert f"debian:bookworm@{ONE}" in bases.asked


def test_what_is_locked_stays_and_what_is_unused_goes() -> None:
    """So that adding a FROM changes one line of the file; an update is a lock made without the old one."""
    known = Lock({"debian:bookworm": TWO, "gone:latest": TWO}, {"https://example.com/a.tar": TWO}, {})
    lock = make_lock(parse(TEXT), PlanOptions(), (AMD64,), Everything(), resolvers(), known)
    assert lock.images["debian:bookworm"] == TWO
    assert lock.images["tools-amd64:latest"] == ONE
    assert "gone:latest" not in lock.images
    assert lock.urls == known.urls
    lines = known.differences(lock)
    assert f"gone:latest: {TWO} -> no longer used" in lines
    assert f"tools-amd64:latest: not locked -> {ONE}" in lines
    assert not any(line.startswith("debian") for line in lines)


def test_the_file_reads_back_as_it_was_written(tmp_path: Path) -> None:
    """JSON, a name on each line, ended by a newline; no file is no lock."""
    lock = Lock({"b": ONE, "a": TWO}, {"u": ONE}, {"g": COMMIT})
    path = lock_path(tmp_path / "web.build")
    assert path.name == "web.build.lock"
    assert Lock.read(path) is None
    path.write_bytes(lock.to_json())
    assert Lock.read(path) == lock
    assert path.read_text().endswith("}\n")
    assert len([line for line in path.read_text().splitlines() if "sha256" in line]) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"version": 2}', "version 2 is unknown"),
        ('{"version": 1, "images": {"a": "latest"}}', "digest"),
        ('{"version": 1, "images": {"a": 1}}', "an object of strings"),
        ('{"version": 1, "git": {"a": "--upload-pack=x"}}', "is not a commit"),
    ],
)
def test_a_damaged_lock_file_is_a_clear_error(tmp_path: Path, text: str, message: str) -> None:
    """It may have been edited, or merged by hand."""
    (tmp_path / "Buildfile.lock").write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        Lock.read(tmp_path / "Buildfile.lock")
    assert "layersmith lock" in caught.value.hint


def test_images_are_asked_for_by_their_locked_digest() -> None:
    """By name and digest, so that the name still says where; a strict lock refuses the others."""
    bases = Everything()
    lock = Lock({"debian:latest": ONE}, {}, {})
    LockedBases(bases, lock).image("docker.io/debian", AMD64)
    LockedBases(bases, lock).image("other", AMD64)
    LockedBases(bases, EMPTY, strict=True).image(f"other@{TWO}", AMD64)
    assert bases.asked == [f"docker.io/debian@{ONE}", "other", f"other@{TWO}"]
    with pytest.raises(PlanError, match="image other:latest is not in the lock file"):
        LockedBases(bases, lock, strict=True).image("other", AMD64)
    assert LockedBases(bases, lock, strict=True).context("given", AMD64) == ops.ContextInput("given")


def test_an_image_that_is_gone_says_that_it_was_locked() -> None:
    """The digest comes from a file that its reader may not know of."""

    class Nothing(Everything):
        def image(self, name: str, platform: Platform) -> Image:
            raise NotFoundError(f"no image {name}")

    with pytest.raises(NotFoundError) as caught:
        LockedBases(Nothing(), Lock({"a:latest": ONE}, {}, {})).image("a", AMD64)
    assert "lock --update" in caught.value.hint


def test_urls_and_repositories_are_held_to_the_lock() -> None:
    """A URL gets its content's digest as --checksum, a repository its commit as ref; what has its own keeps it."""
    buildfile = parse(TEXT[: TEXT.index("FROM pinned")])
    plans = (plan(buildfile, PlanOptions(platform=AMD64), Everything()),)
    lock = Lock({}, {"https://example.com/a.tar": ONE}, {"https://example.com/repo.git#main:sub": "b" * 40})
    (found,) = pinned(plans, lock, strict=True)
    sources = [s for step in found.steps if isinstance(step.op, ops.CopyOp) for s in step.op.sources][1:]
    assert sources == [
        ops.HttpSource("https://example.com/a.tar", ONE),
        ops.HttpSource("https://example.com/b.tar", ONE),
        ops.GitSource(f"https://example.com/repo.git#{'b' * 40}:sub"),
        ops.GitSource(f"https://example.com/repo.git#{COMMIT}"),
    ]
    assert pinned(plans, EMPTY) == plans
    with pytest.raises(PlanError, match=r"https://example.com/a.tar is not in the lock file"):
        pinned(plans, EMPTY, strict=True)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://h/r.git", f"https://h/r.git#{COMMIT}"),
        ("https://h/r.git#main", f"https://h/r.git#{COMMIT}"),
        ("git@h:r.git#v1:a/b", f"git@h:r.git#{COMMIT}:a/b"),
        ("https://h/r.git?branch=x&subdir=d", f"https://h/r.git?subdir=d&ref={COMMIT}"),
        ("https://h/r.git?submodules=0#main", f"https://h/r.git?submodules=0#{COMMIT}"),
    ],
)
def test_a_repository_at_a_commit(url: str, expected: str) -> None:
    """All of the URL stays but for the ref, wherever that stands."""
    assert at_commit(url, COMMIT) == expected
