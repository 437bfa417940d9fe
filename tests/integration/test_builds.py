"""What is kept of builds, and what can be done with it: ``builds``, ``logs``, ``explain``, ``debug``; and the scheduler's promises."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import time
from pathlib import Path

import pytest
from program import COMMAND, Layersmith

from layersmith.store import Store
from layersmith.store.build_record import Build
from layersmith.store.builds import KEEP_FAILED
from layersmith.transport.registry.fake import FakeRegistry

pytestmark = pytest.mark.root


def write(context: Path, text: str) -> None:
    (context / "Buildfile").write_text(text)


def last(layersmith: Layersmith) -> Build:
    with Store.open(layersmith.root) as store:
        return store.builds.find("")


def outcomes(build: Build) -> dict[str, str]:
    """How steps ended, by their instructions."""
    return {step.instruction: step.outcome for step in build.steps}


def written(layersmith: Layersmith) -> str:
    """All that is kept of builds."""
    files = [path for path in (layersmith.root / "builds").rglob("*") if path.is_file()]
    assert files
    return "".join(path.read_text(errors="replace") for path in files)


# Records


def test_a_build_is_recorded(layersmith: Layersmith, base: str, context: Path) -> None:
    """What it was asked, what came of it, and of each step its key, times, layer and sizes; a hit says as much."""
    write(context, "FROM base AS a\nRUN echo x > /x\nFROM base\nCOPY --from=a /x /y\n")
    for outcome in ("ran", "hit"):
        layersmith("build", "-t", "app", "--jobs", "3", context)
        build = last(layersmith)
        assert (build.result, build.names, build.jobs) == ("done", ("app",), 3)
        assert build.context == str(context)
        assert build.image == layersmith.digest("app")
        assert build.finished is not None
        assert build.finished >= build.started
        run, copy = (step for step in build.steps if step.outcome != "base")
        assert {run.outcome, copy.outcome} == {outcome}
        assert (run.stage, run.line, run.source.rpartition(":")[2]) == ("a", 2, "2")
        assert run.number in copy.needs
        assert run.key.startswith("sha256:")
        assert run.layer is not None
        assert run.started is not None
        assert run.finished is not None
        assert build.started <= run.started <= run.finished <= build.finished
        if outcome == "ran":
            assert run.pack_started is not None
            assert run.pack_finished is not None
            assert run.diff_size is not None
            assert run.diff_size >= 1024
            assert [cause.kind for cause in run.why] == ["new"]


def test_a_build_that_does_not_parse_is_recorded(layersmith: Layersmith, base: str, context: Path) -> None:
    """With its error, and no steps."""
    write(context, "FROM base\nRUM x\n")
    layersmith("build", context, status=3)
    build = last(layersmith)
    assert (build.result, build.steps) == ("failed", ())
    assert "RUM" in build.error


def test_listing_and_removing(layersmith: Layersmith, base: str, context: Path) -> None:
    """`builds`, its formats, `inspect` and `rm`."""
    write(context, "FROM base\nRUN echo one\n")
    layersmith("build", "-t", "app", context)
    build = last(layersmith)
    assert build.id in layersmith("builds").stdout
    assert layersmith("builds", "-q").stdout.split() == [build.id]
    assert layersmith("builds", "--format", "{{.Names}} {{.Result}}").stdout == "[app] done\n"
    assert json.loads(layersmith("builds", "inspect", "app").stdout)["image"] == build.image
    assert layersmith("builds", "inspect", "--format", "{{.result}}", build.id[:4]).stdout == "done\n"
    layersmith("builds", "inspect", "nosuch", status=5)
    assert layersmith("builds", "rm", build.id).stdout == f"{build.id}\n"
    assert layersmith("builds", "-q").stdout == ""
    layersmith("builds", "rm", build.id, status=5)
    layersmith("inspect", "app")
    layersmith("fsck")


def test_builds_without_a_store(layersmith: Layersmith) -> None:
    """They say that there is none, and make none."""
    for command in (("builds",), ("explain",), ("debug",), ("builds", "rm", "x")):
        assert "no store" in layersmith(*command, status=7).stderr
    assert not layersmith.root.exists()


# Logs


def test_the_whole_log_is_kept(layersmith: Layersmith, base: str, context: Path) -> None:
    """Every byte of both streams, of what failed, too, and with no secret in it."""
    (context / "key").write_text("hush-hush\n")
    write(
        context,
        "FROM base\nRUN seq 1 20000; printf 'no\\nend'\n"
        "RUN --mount=type=secret,id=key echo out; cat /run/secrets/key; echo err >&2; exit 3\n",
    )
    layersmith("build", "--secret", "id=key,src=key", ".", cwd=context, status=4)
    build = last(layersmith)
    first, second = (str(step.number) for step in build.steps if step.outcome != "base")
    expected = "".join(f"{number}\n" for number in range(1, 20001)) + "no\nend"
    assert layersmith("logs", build.id, first).stdout == expected
    failed = layersmith("logs", build.id, f"#{second}")
    assert (failed.stdout, failed.stderr) == ("out\n***\n", "err\n")
    assert "hush" not in written(layersmith)
    whole = layersmith("logs", "-n", "1", build.id).stdout
    assert f"#{first} " in whole
    assert whole.count("end") >= 1
    layersmith("logs", build.id, "99", status=5)
    layersmith("logs", build.id, "x", status=2)
    layersmith("logs", "nosuch", status=5)


def test_a_killed_build_leaves_its_log(layersmith: Layersmith, base: str, context: Path) -> None:
    """What came before the kill is there, and the build is said to have been killed."""
    write(context, "FROM base\nRUN echo before; sleep 60\n")
    with layersmith.start("build", context) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.rstrip().endswith(" before"):
                break
        assert last(layersmith).result == "running"
        process.kill()
        process.communicate(timeout=30)
    build = last(layersmith)
    assert build.result == "killed"
    assert layersmith("logs", build.id, "1").stdout == "before\n"


def test_a_container_comes_before_a_build(layersmith: Layersmith, base: str, context: Path) -> None:
    """`logs NAME` of both words means what it always meant."""
    write(context, "FROM base\nRUN echo of the build\nCMD echo of the container\n")
    layersmith("build", "-t", "app", context)
    assert "of the build" in layersmith("logs", "app").stdout
    layersmith("run", "-d", "--name", "app", "app")
    layersmith("wait", "app")
    assert layersmith("logs", "app").stdout == "of the container\n"


# Explain


def test_explaining_as_it_goes(layersmith: Layersmith, base: str, context: Path) -> None:
    """`build --explain` names the file before the step's own output."""
    (context / "file").write_text("one")
    write(context, "FROM base\nRUN --mount=type=bind,target=/c cat /c/file\n")
    layersmith("build", context)
    (context / "file").write_text("two")
    said = layersmith("build", "--explain", context).stderr
    assert "runs: file (of /c): content" in said
    assert said.index("runs: file (of /c): content") < said.index(" two\n")


def test_explaining_in_words(layersmith: Layersmith, base: str, context: Path) -> None:
    """Of the last build, of one before it, of one step; a hit names the build that made it."""
    write(context, "FROM base\nRUN echo one > /x\n")
    layersmith("build", context)
    first = last(layersmith)
    layersmith("build", context)
    assert f"hit: made by {first.id}/1" in layersmith("explain").stdout
    assert "there is no earlier step like it" in layersmith("explain", "^1", "1").stdout
    assert layersmith("explain", "1").stdout == layersmith("explain", "", "1").stdout
    assert json.loads(layersmith("explain", "--format", "json").stdout)["against"] == f"{first.id}/1"
    layersmith("explain", "^9", status=5)


# Content first


def test_a_step_that_makes_the_same_again_yields_the_earlier_layer(
    layersmith: Layersmith, base: str, context: Path
) -> None:
    """The image is the same to the byte, though the files' times are new; what stands on it is not done again."""
    write(context, "FROM base\nRUN --no-cache mkdir /d && echo x > /d/x\nRUN date +%N > /stamp\nCOPY f /f\n")
    (context / "f").write_text("f")
    layersmith("build", "-t", "one", context)
    time.sleep(1.1)
    layersmith("build", "-t", "two", context)
    assert layersmith.digest("one") == layersmith.digest("two")
    build = last(layersmith)
    assert [step.outcome for step in build.steps] == ["base", "ran", "hit", "hit"]
    assert build.steps[1].reused


def test_a_reused_layer_is_what_later_steps_see(layersmith: Layersmith, base: str, context: Path) -> None:
    """A command that stands on a step that ran again sees the times that are in the image, whichever these are."""
    command = "RUN --no-cache mkdir /d && echo x > /d/x\n"
    write(context, f"FROM base\n{command}")
    layersmith("build", context)
    time.sleep(1.1)
    write(context, f"FROM base\n{command}RUN stat -c %Y /d/x > /seen\n")
    layersmith("build", "-t", "app", context)
    shown = layersmith("run", "--rm", "app", "sh", "-c", "stat -c %Y /d/x; cat /seen").stdout.split()
    assert shown[0] == shown[1]


def test_with_an_epoch_no_layer_of_another_run_is_taken(
    layersmith: Layersmith, base: str, context: Path
) -> None:
    """What SOURCE_DATE_EPOCH promises depends on no cache."""
    write(context, "FROM base\nRUN --no-cache echo x > /x; touch -d @$(date +%s) /x\n")
    for _ in range(2):
        layersmith("build", "--source-date-epoch", "99999999999", context)
        assert not last(layersmith).steps[1].reused
        time.sleep(1.1)


# Debug


FAILING = """\
FROM base AS tools
RUN echo tool > /tool
FROM base
ENV GREETING=hello
USER 1000
WORKDIR /tmp
RUN --mount=type=bind,source=bound,target=/bound --mount=from=tools,target=/tools \
    --mount=type=secret,id=key,target=/key,mode=0444 --mount=type=tmpfs,target=/scratch \
    echo left > left; echo lost > /scratch/lost; rm /tmp/gone; echo said; false
"""


@pytest.fixture
def failed(layersmith: Layersmith, base: str, context: Path) -> Build:
    """A build that failed in a step with everything."""
    (context / "bound").write_text("bound\n")
    (context / "key").write_text("secret-value\n")
    write(
        context,
        FAILING.replace(
            "USER 1000", "RUN echo > /tmp/gone; chmod 666 /tmp/gone; chown 1000 /tmp/gone\nUSER 1000"
        ),
    )
    layersmith("build", "--secret", "id=key,src=key", ".", cwd=context, status=4)
    return last(layersmith)


def test_a_shell_in_what_a_failed_step_left(layersmith: Layersmith, context: Path, failed: Build) -> None:
    """Its files, environment, mounts, user and directory; what is changed is gone the next time."""
    key = ("--secret", f"id=key,src={context / 'key'}")
    command = (
        "pwd; id -u; cat left /bound /tools/tool /key; echo $GREETING; ls /tmp /scratch; touch new; exit 7"
    )
    for _ in range(2):
        shown = layersmith("debug", *key, "-c", command, status=7)
        lines = [
            "/tmp",
            "1000",
            "left",
            "bound",
            "tool",
            "secret-value",
            "hello",
            "/scratch:",
            "",
            "/tmp:",
            "left",
        ]
        assert shown.stdout.splitlines() == lines
        assert failed.id in shown.stderr
    assert layersmith.mounts() == []
    assert "secret-value" not in written(layersmith)


def test_what_debug_needs_survives_a_prune(layersmith: Layersmith, context: Path, failed: Build) -> None:
    """The layers below stay, until the build is forgotten; all goes with ``--all``, which is what it says."""
    layersmith("prune", "--keep-storage", "0")
    layersmith("fsck")
    assert (
        layersmith("debug", "--secret", f"id=key,src={context / 'key'}", "-c", "cat left").stdout == "left\n"
    )
    layersmith("prune", "--all")
    layersmith("debug", failed.id, status=5)
    assert layersmith("logs", failed.id).stdout
    layersmith("builds", "rm", failed.id)
    layersmith("logs", failed.id, status=5)
    layersmith("fsck")


def test_debug_without_what_it_needs(layersmith: Layersmith, context: Path, failed: Build) -> None:
    """No such build, step or shell; a context that is gone."""
    layersmith("debug", "nosuch", status=5)
    layersmith("debug", failed.id, "--step", "1", status=5)
    assert layersmith("debug", "--shell", "/no/such", status=127)
    (context / "bound").unlink()
    context.rename(context.with_name("elsewhere"))
    assert "no longer there" in layersmith("debug", "-c", "true", status=4).stderr


def test_only_the_last_failures_are_kept(layersmith: Layersmith, base: str, context: Path) -> None:
    """A few of them, so that they don't fill the disk."""
    write(context, "FROM base\nRUN echo x > /x; false\n")
    for _ in range(KEEP_FAILED + 1):
        layersmith("build", context, status=4)
    assert len(list((layersmith.root / "builds").glob("*/failed"))) == KEEP_FAILED
    assert len(layersmith("builds", "-q").stdout.split()) == KEEP_FAILED + 1


def test_a_shell_at_once(layersmith: Layersmith, base: str, context: Path) -> None:
    """``--on-error=shell`` on a terminal: the error, then a prompt in what is left; the build's status after that."""
    write(context, "FROM base\nRUN echo left > /left; exit 3\n")
    controller, terminal = pty.openpty()
    command = [*COMMAND, "build", "--progress=plain", "--on-error=shell", str(context)]
    with subprocess.Popen(
        command, env=dict(layersmith.environment), stdin=terminal, stdout=terminal, stderr=terminal
    ) as process:
        os.close(terminal)
        said = b""
        end = time.monotonic() + 30
        typed = False
        while time.monotonic() < end:
            if not select.select([controller], [], [], 0.2)[0]:
                if b"type exit" in said and not typed:
                    os.write(controller, b"cat /left | tr a-z A-Z; exit\n")
                    typed = True
                continue
            try:
                data = os.read(controller, 4096)
            except OSError:
                break
            if not data:
                break
            said += data
        assert process.wait(30) == 4, said
    os.close(controller)
    assert b"exit code: 3" in said
    assert b"LEFT" in said
    assert said.count(b"error: process") == 1


# The scheduler


def test_keep_going_finishes_what_does_not_need_the_failed_step(
    layersmith: Layersmith, base: str, context: Path
) -> None:
    """The others are done and recorded; what stood on the failed one is skipped; the output of all is kept."""
    write(
        context,
        "FROM base AS bad\nRUN echo of bad; exit 3\nRUN true\n"
        "FROM base AS good\nRUN sleep 0.5; echo of good\nRUN echo more\n"
        "FROM base\nCOPY --from=bad / /a\nCOPY --from=good / /b\n",
    )
    layersmith("build", "--keep-going", context, status=4)
    build = last(layersmith)
    assert outcomes(build) == {
        "FROM base": "base",
        "RUN echo of bad; exit 3": "failed",
        "RUN true": "skipped",
        "RUN sleep 0.5; echo of good": "ran",
        "RUN echo more": "ran",
        "COPY --from=bad / /a": "skipped",
        "COPY --from=good / /b": "skipped",
    }
    logs = layersmith("logs", build.id).stdout
    assert "of bad\n" in logs
    assert "of good\n" in logs


def test_the_first_failure_stops_what_runs(layersmith: Layersmith, base: str, context: Path) -> None:
    """It is said to have been cancelled, and what it had written is kept."""
    write(
        context,
        "FROM base AS slow\nRUN echo of slow; sleep 60\nFROM base AS bad\nRUN sleep 0.5; exit 3\n"
        "FROM base\nCOPY --from=slow / /\nCOPY --from=bad / /\n",
    )
    layersmith("build", context, status=4, timeout=30)
    build = last(layersmith)
    assert outcomes(build)["RUN echo of slow; sleep 60"] == "cancelled"
    assert outcomes(build)["RUN sleep 0.5; exit 3"] == "failed"
    assert "of slow\n" in layersmith("logs", build.id).stdout


def test_a_copy_does_not_wait_for_a_run_that_it_does_not_need(
    layersmith: Layersmith, base: str, context: Path
) -> None:
    """A stage of COPYs alone is done while another's command runs."""
    (context / "file").write_text("file")
    write(
        context,
        "FROM base AS slow\nRUN sleep 1.5\nFROM base AS copies\nCOPY file /a\nCOPY file /b\n"
        "FROM base\nCOPY --from=slow / /\nCOPY --from=copies / /\n",
    )
    layersmith("build", context)
    steps = {step.instruction: step for step in last(layersmith).steps}
    slow, copy = steps["RUN sleep 1.5"], steps["COPY file /b"]
    assert slow.finished is not None
    assert copy.finished is not None
    assert copy.finished < slow.finished - 0.5


def test_a_layer_is_packed_while_the_next_step_runs(layersmith: Layersmith, base: str, context: Path) -> None:
    """The next command begins before the layer below it is whole."""
    write(context, "FROM base\nRUN dd if=/dev/urandom of=/big bs=1M count=200\nRUN sleep 0.2\n")
    layersmith("build", context)
    big, following = (step for step in last(layersmith).steps if step.outcome == "ran")
    assert following.started is not None
    assert big.pack_finished is not None
    assert following.started < big.pack_finished


def test_the_same_step_of_two_builds_runs_once(layersmith: Layersmith, base: str, context: Path) -> None:
    """The second waits for the first, and takes its result."""
    write(context, "FROM base\nRUN echo begin; sleep 2; date +%N > /stamp\n")
    processes = [layersmith.start("build", "-t", name, context) for name in ("one", "two")]
    for process in processes:
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 0, said
    assert layersmith.digest("one") == layersmith.digest("two")
    with Store.open(layersmith.root) as store:
        ended = sorted(build.steps[1].outcome for build in store.builds.recent())
    assert ended == ["hit", "ran"]


# Bases


def test_pull_asks_for_a_newer_base(layersmith: Layersmith, base: str, context: Path) -> None:
    """Without ``--pull`` the base that is in the store is taken; with it a tag that moved makes the steps run, and says so."""
    with FakeRegistry() as registry:
        name = f"{registry.host}/base:1"
        write(context, "FROM base\nRUN echo newer > /newer\n")
        layersmith("tag", "base", name)
        layersmith("push", name)
        (context / "app").write_text(f"FROM {name}\nRUN echo app > /app\n")
        layersmith("build", "-f", "app", ".", cwd=context)
        layersmith("build", "--pull", "-f", "app", ".", cwd=context)
        assert last(layersmith).steps[1].outcome == "hit"

        other = layersmith.with_store(context.parent / "other")
        other("pull", name)
        other("tag", name, "base")
        other("build", "-t", name, ".", cwd=context)
        other("push", name)

        layersmith("build", "-f", "app", ".", cwd=context)
        assert last(layersmith).steps[1].outcome == "hit"
        layersmith("build", "--pull", "-f", "app", ".", cwd=context)
        step = last(layersmith).steps[1]
        assert (step.outcome, [(c.kind, c.subject) for c in step.why]) == ("ran", [("base", name)])
