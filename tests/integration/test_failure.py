"""Builds that fail, are stopped or are killed: what they say, and that they leave nothing."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from program import Layersmith
from unfinished import unfinished

PROMPT = 2.0
"""Seconds for a stopped build to end in: it should take one, but the machine may be busy with other tests."""


def wait_for(what: Callable[[], object], seconds: float = 30) -> None:
    """Wait until ``what`` is true."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def write(context: Path, text: str) -> Path:
    path = context / "Buildfile"
    path.write_text(text)
    return path


def left_over(store: Path) -> list[str]:
    """What is in the store's directory for the unfinished."""
    return [path.name for path in unfinished(store)]


# Failing


def test_a_failing_command(layersmith: Layersmith, base: str, context: Path) -> None:
    """Its place, the command, its status and its last output are told; status 4; no image, mount, process or scrap."""
    marker = f"{random.randrange(10**6, 10**7)}"
    command = f"sleep {marker} & seq 1 1000; echo to stderr >&2; echo last line; exit 42"
    write(context, f"FROM base\nRUN echo before > /before\nRUN {command}\nRUN echo never\n")
    failed = layersmith("build", "-t", "broken", context, status=4)

    said = failed.stderr
    assert f"{context / 'Buildfile'}:3:1" in said
    assert f">>>    3 | RUN {command}" in said
    assert "exit code: 42" in said.splitlines()[-1]
    output = said[said.index("last output:") :]
    assert "to stderr\n" in output
    assert "last line\n" in output
    assert "  1000\n" in output
    assert "  900\n" not in output, "only the last of it"
    assert failed.stdout == ""

    assert "broken" not in layersmith("images").stdout
    layersmith("inspect", "broken", status=5)
    assert layersmith.mounts() == []
    assert layersmith.processes(marker) == []
    assert left_over(layersmith.root) == []
    layersmith("fsck")


def test_a_failed_build_keeps_the_name_of_the_last_good_one(
    layersmith: Layersmith, base: str, context: Path
) -> None:
    """A name moves only to a finished image; the steps that were done are not done again."""
    write(context, "FROM base\nRUN date +%N > /stamp\nRUN true\n")
    layersmith("build", "-t", "app", context)
    good = layersmith.digest("app")
    write(context, "FROM base\nRUN date +%N > /stamp\nRUN false\n")
    layersmith("build", "-t", "app", context, status=4)
    assert layersmith.digest("app") == good
    write(context, "FROM base\nRUN date +%N > /stamp\nRUN true\n")
    layersmith("build", "-t", "app", context)
    assert layersmith.digest("app") == good


def test_steps_beside_the_failing_one_are_stopped(layersmith: Layersmith, base: str, context: Path) -> None:
    """A failure in one stage ends what other stages run, soon and without a trace."""
    marker = f"{random.randrange(10**6, 10**7)}"
    write(
        context,
        f"FROM base AS slow\nRUN sleep {marker}\n"
        "FROM base AS bad\nRUN sleep 0.5; exit 3\n"
        "FROM base\nCOPY --from=slow / /\nCOPY --from=bad / /\n",
    )
    failed = layersmith("build", context, status=4, timeout=30)
    assert "exit code: 3" in failed.stderr
    assert layersmith.processes(marker) == []
    assert left_over(layersmith.root) == []


@pytest.mark.parametrize(
    ("text", "flags", "status", "said"),
    [
        pytest.param("FROM base", ("--no-such-flag",), 2, "--no-such-flag", id="2, the command line"),
        pytest.param("FROM base", ("-o", "type=parcel"), 2, "parcel", id="2, an option's value"),
        pytest.param("FROM base\nRUM true", (), 3, "RUN", id="3, an unknown instruction"),
        pytest.param("FROM base\nCOPY a", (), 3, "2:6", id="3, a missing argument"),
        pytest.param("FROM base\nRUN exit 99", (), 4, "99", id="4, a command"),
        pytest.param("FROM base\nCOPY missing /", (), 4, "missing", id="4, a source"),
        pytest.param('FROM base\nRUN ["/no/such"]', (), 4, "127", id="4, no such program"),
        pytest.param("FROM localhost:1/no:such", (), 6, "localhost:1", id="6, a registry"),
    ],
)
def test_the_exit_status_says_what_is_wrong(
    layersmith: Layersmith,
    base: str,
    context: Path,
    text: str,
    flags: tuple[str, ...],
    status: int,
    said: str,
) -> None:
    """As documented in ``layersmith --help``; the message names what was wrong."""
    write(context, text)
    assert said in layersmith("build", *flags, context, status=status).stderr
    assert left_over(layersmith.root) == []


def test_status_5_is_an_unknown_image(layersmith: Layersmith, base: str) -> None:
    """For commands that look only into the store."""
    for command in ("inspect", "history", "layers", "diff", "mount"):
        assert "nosuch" in layersmith(command, "nosuch", status=5).stderr


def test_status_7_is_the_store(layersmith: Layersmith, base: str, context: Path, tmp_path: Path) -> None:
    """A foreign directory, and a blob whose bytes were changed: named, refused, repaired."""
    write(context, "FROM base\nRUN true\n")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "letter.txt").write_text("mine")
    assert "foreign" in layersmith("build", "--root", foreign, context, status=7).stderr
    assert [path.name for path in foreign.iterdir()] == ["letter.txt"]

    layersmith("fsck")
    blob = max((layersmith.root / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(data)
    shown = layersmith("fsck", status=7)
    assert blob.name in shown.stdout + shown.stderr
    layersmith("build", context, status=7)


# Being stopped


STUCK = {
    "a command": "FROM base\nRUN echo begin; sleep {marker}\n",
    # Dense with SHA-256 and zstd work: half a minute of it.
    "the packing of a layer": "FROM base\nRUN truncate -s 20G /big; echo begin\nRUN sleep {marker}\n",
    "a copy": "FROM base\nRUN echo begin\nCOPY big /\n",
    "a copy from a stage": (
        "FROM base AS a\nCOPY few /\nRUN truncate -s 9G /big; echo begin\nFROM base\nCOPY --from=a /big /\n"
    ),
    "two stages": (
        "FROM base AS a\nRUN sleep {marker}\nFROM base\nRUN echo begin; trap '' TERM INT; sleep {marker}\n"
        "COPY --from=a / /\n"
    ),
}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("stuck", STUCK)
def test_a_signal_ends_a_build(
    layersmith: Layersmith,
    base: str,
    context: Path,
    stuck: str,
    number: signal.Signals,
    record_property: Callable[[str, object], None],
) -> None:
    """Ctrl-C (to the whole group) and SIGTERM (to it alone) end it at once with status 130, and nothing is left of it."""
    marker = f"{random.randrange(10**6, 10**7)}"
    (context / "few").write_text("few")
    with (context / "big").open("wb") as file:
        file.truncate(20 << 30)
    write(context, STUCK[stuck].format(marker=marker))
    with layersmith.start("build", "-t", "stopped", context) as build:
        try:
            assert build.stdout is not None
            for line in build.stdout:
                if line.rstrip().endswith(" begin"):
                    break
            time.sleep(0.3)
            assert build.poll() is None, "it must be at work when it is stopped"
            begin = time.monotonic()
            if number == signal.SIGINT:
                os.killpg(build.pid, number)
            else:
                build.send_signal(number)
            said, _ = build.communicate(timeout=30)
            took = time.monotonic() - begin
        finally:
            build.kill()
    record_property("seconds to end", round(took, 3))
    print(f"{stuck}, {number.name}: ended after {took:.2f} s")
    assert build.returncode == 130, said
    assert said.rstrip().endswith("layersmith: stopped")
    assert "Traceback" not in said
    assert took < PROMPT
    assert layersmith.processes(marker) == []
    assert layersmith.mounts() == []
    # On a busy machine the last resort may have ended it: then the next start sweeps.
    assert "stopped" not in layersmith("images").stdout
    assert left_over(layersmith.root) == []
    layersmith("fsck")


# Being killed


MANY_STEPS = """\
FROM base AS one
COPY files /files
RUN for n in $(seq 1 300); do echo $n > /files/$n; done
RUN rm -r /files/sub && mkdir /files/sub && echo new > /files/sub/new && ln /files/1 /files/one
WORKDIR /made/here

FROM base AS two
RUN dd if=/dev/zero bs=65536 count=200 of=/zeros && sleep 0.05
RUN --mount=type=cache,target=/cache echo x >> /cache/x; echo done > /done

FROM base
COPY --from=one /files /files
COPY --from=two /zeros /done /two/
RUN cp /files/7 /seven
ENTRYPOINT ["cat"]
CMD ["/seven", "/two/done"]
"""


@pytest.mark.slow
def test_a_build_after_a_killed_one(layersmith: Layersmith, base: str, context: Path, tmp_path: Path) -> None:
    """Killed by SIGKILL at any moment, the next build succeeds and makes the very same image; the store is sound."""
    (context / "files" / "sub").mkdir(parents=True)
    for number in range(20):
        (context / "files" / f"file-{number}").write_text(f"{number}\n" * 5000)
    write(context, MANY_STEPS)
    stores = tmp_path / "stores"
    stores.mkdir()
    # Copies of the store with nothing but the base: quick to make, and each killed build starts from the same.
    shutil.copytree(layersmith.root, stores / "undisturbed", symlinks=True)
    digest = tmp_path / "digest"
    build = ("build", "--source-date-epoch", "1600000000", "-t", "whole", "--iidfile", digest, context)

    undisturbed = layersmith.with_store(stores / "undisturbed")
    begin = time.monotonic()
    undisturbed(*build)
    duration = time.monotonic() - begin
    expected = digest.read_text()

    seed = uuid.uuid4().int
    chance = random.Random(seed)
    survived = 0
    for attempt in range(int(os.environ.get("LAYERSMITH_TEST_KILLS", "25"))):
        store = stores / str(attempt)
        shutil.copytree(layersmith.root, store, symlinks=True)
        program = layersmith.with_store(store)
        delay = chance.uniform(0, duration * 1.1)
        where = f"attempt {attempt} of seed {seed}: killed after {delay:.3f} s"
        with program.start(*build) as victim:
            try:
                victim.wait(delay)
                survived += 1
            except subprocess.TimeoutExpired:
                victim.kill()
            victim.communicate(timeout=30)
        wait_for(lambda program=program: program.processes() == [], 5)
        digest.unlink(missing_ok=True)
        program(*build)
        assert digest.read_text() == expected, where
        # Deleting what the dead left has half a second in each command, which may not do on a busy machine.
        wait_for(lambda program=program, store=store: program("images") and left_over(store) == [], 10)
        program("fsck")
        assert program("run", "--rm", "whole").stdout == "7\ndone\n", where
    assert survived < attempt, "most should have been killed"
