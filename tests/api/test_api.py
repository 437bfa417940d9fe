"""``import layersmith``: build, load, run, Image, Store, Buildfile, from any thread and as any user."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import pytest
from program import Layersmith

import layersmith
from layersmith import errors
from layersmith.progress import ImageBuilt, StepFinished, StepOutput

ROOT = Path(__file__).parents[2]


def test_build_and_run(store: layersmith.Store, context: Path) -> None:
    """An image as a value: what it is called, what is in it, what it says."""
    image = layersmith.build(context, tags=["said:1"], build_args={"WHO": "you"}, store=store)
    assert image.names == ("said:1",)
    assert image.read("/said") == b"hello you\n"
    assert image.run().stdout == "hello you\n"
    assert image.config.cmd == ("/bin/sh", "-c", "cat /said")
    assert image.size == sum(layer.descriptor.size for layer in image.layers)
    assert store.image("said:1") == image == pickle.loads(pickle.dumps(image))
    assert image in store.images()
    assert "said:1" in store
    assert "said:2" not in store


def test_the_events_of_a_build(store: layersmith.Store, context: Path) -> None:
    """By callback and by iteration, in order; the last one is the image."""
    seen: list[object] = []
    image = layersmith.build(context, build_args={"WHO": "events"}, progress=seen.append, store=store)
    assert isinstance(seen[-1], ImageBuilt)
    assert seen[-1].digest == image.digest
    with layersmith.start_build(context, build_args={"WHO": "events"}, store=store) as going:
        finished = [event.how for event in going if isinstance(event, StepFinished)]
        assert finished == ["cached"]
        assert going.image == image


def test_run_has_input_output_and_status(store: layersmith.Store) -> None:
    """As `subprocess.run` has them."""
    done = layersmith.run(
        "base", ["sh", "-c", "cat; echo $A >&2; exit 3"], input="in", env={"A": "b"}, check=False, store=store
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "in", "b\n")
    with pytest.raises(errors.CommandError) as caught:
        store.run("base", ["sh", "-c", "echo no >&2; exit 3"])
    assert (caught.value.status, caught.value.tail) == (3, "no\n")
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        store.run("base", ["sleep", "60"], timeout=1)
    assert time.monotonic() - start < 20


def test_errors_are_those_of_the_library(store: layersmith.Store, tmp_path: Path) -> None:
    """With their place, status and hint, though they were raised in another process."""
    wrong = layersmith.Buildfile.parse("FROM base\nRUN echo oops; exit 7\n")
    with pytest.raises(errors.CommandError) as failed:
        store.build(tmp_path, file=wrong)
    assert failed.value.status == 7
    assert failed.value.span is not None
    assert failed.value.span.line == 2
    assert "oops" in failed.value.tail
    with pytest.raises(errors.BuildfileSyntaxError):
        layersmith.Buildfile.parse("FORM base\n")
    with pytest.raises(errors.UsageError):
        store.build(tmp_path, options=["--no-such-option"])
    with pytest.raises(errors.NotFoundError):
        store.image("nope")
    with pytest.raises(errors.UsageError):
        store.build(tmp_path, secrets={"a,src=/etc/shadow": b""})
    assert layersmith.Store(tmp_path / "none").images() == ()
    assert not (tmp_path / "none").exists()


def test_secrets_are_bytes(store: layersmith.Store, tmp_path: Path) -> None:
    """They reach the step, and nothing that lasts."""
    text = "FROM base\nRUN --mount=type=secret,id=key,required=true wc -c </run/secrets/key >/size\n"
    image = store.build(
        tmp_path, file=layersmith.Buildfile.parse(text), secrets={"key": b"\0" * 70_000 + b"hunter2"}
    )
    assert image.read("size").strip() == b"70007"
    image.export(tmp_path / "image.tar", compression="none")
    assert b"hunter2" not in (tmp_path / "image.tar").read_bytes()


def test_there_and_back(store: layersmith.Store, context: Path, tmp_path: Path) -> None:
    """Exported, loaded into another store, named, removed."""
    image = store.build(context, tags=["there"])
    image.export(tmp_path / "a, b.tar")
    other = layersmith.Store(tmp_path / "other")
    (loaded,) = layersmith.load(tmp_path / "a, b.tar", name="back:1", store=other)
    assert loaded.digest == image.digest
    assert loaded.tag("back:2").names == ("back:1", "back:2")
    loaded.remove()
    assert other.images() == ()


def test_a_buildfile_is_a_value() -> None:
    """Stages, findings and the canonical form of a text."""
    file = layersmith.Buildfile.parse("from base as A\nrun true\nFROM a\nMAINTAINER me\n")
    assert file.targets == ("a",)
    assert [stage.name for stage in file.stages] == ["a", None]
    assert "MaintainerDeprecated" in {finding.rule for finding in file.check()}
    assert file.formatted().startswith("FROM base AS A")
    assert str(file).startswith("from base")
    assert layersmith.Buildfile.parse(file.text) == file


def test_many_threads_build_and_run(store: layersmith.Store, tmp_path: Path) -> None:
    """A program with threads keeps its namespaces and mounts; each build has its own process."""
    mounts = Path("/proc/self/ns/mnt").readlink()
    found: dict[int, str] = {}

    def work(number: int) -> None:
        file = layersmith.Buildfile.parse(f"FROM base\nRUN echo {number} >/n\n")
        found[number] = store.build(tmp_path, file=file).run(["cat", "/n"]).stdout

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: f"{number}\n" for number in range(4)}
    assert Path("/proc/self/ns/mnt").readlink() == mounts


def test_leaving_a_build_stops_it(store: layersmith.Store, tmp_path: Path) -> None:
    """The ``with`` is left before the end: the step is killed, and there is no image."""
    file = layersmith.Buildfile.parse("FROM base\nRUN echo started; sleep 1000\n")
    start = time.monotonic()
    with layersmith.start_build(tmp_path, file=file, store=store) as going:
        for event in going:
            if isinstance(event, StepOutput):
                break
    assert time.monotonic() - start < 30
    with pytest.raises(errors.LayersmithError):
        _ = going.image


def test_a_build_dies_with_the_program(store: layersmith.Store, tmp_path: Path) -> None:
    """SIGKILL to the caller: the kernel tells the worker, which ends its steps."""
    code = f"""
        import layersmith
        file = layersmith.Buildfile.parse("FROM base\\nRUN echo started; sleep 4242\\n")
        going = layersmith.start_build({os.fspath(tmp_path)!r}, file=file, store=layersmith.Store({os.fspath(store.root)!r}))
        for event in going:
            if type(event).__name__ == "StepOutput":
                print(going._worker.process.pid, flush=True)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as program:
        assert program.stdout is not None
        worker = int(program.stdout.readline())
        program.send_signal(signal.SIGKILL)
    end = time.monotonic() + 15
    while Path(f"/proc/{worker}").exists() and Path(f"/proc/{worker}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < end, "the build goes on"
        time.sleep(0.05)


def python_for_everybody() -> str:
    """This Python, or one of the same version that others may run."""
    real = Path(sys.executable).resolve()
    if all(parent.stat().st_mode & 0o001 for parent in (real, *real.parents)):
        return sys.executable
    other = f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}"
    if not Path(other).exists():
        pytest.skip(f"only root may run {real}")
    return other


@pytest.mark.root
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv")
def test_as_an_ordinary_user(store: layersmith.Store, context: Path) -> None:
    """A user without subordinate ids builds, reads and runs, from a thread, with a store of their own."""
    with tempfile.TemporaryDirectory(prefix="layersmith-user-") as name:
        home = Path(name)
        store.image("base").export(home / "base.tar")
        shutil.copytree(context, home / "context")
        for path in (home, *home.rglob("*")):
            os.chown(path, 54321, 54321)
        code = f"""
            import threading, layersmith
            store = layersmith.Store({os.fspath(home / "store")!r})
            layersmith.load({os.fspath(home / "base.tar")!r}, name="base", store=store)
            def work():
                print(store.build({os.fspath(home / "context")!r}).run().stdout, end="")
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        """
        packages = os.pathsep.join(
            [os.fspath(ROOT), *(path for path in sys.path if path.endswith("-packages"))]
        )
        user = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"]
        done = subprocess.run(
            [*user, python_for_everybody(), "-c", textwrap.dedent(code)],
            env=Layersmith.at(home / "store", home).environment | {"PYTHONPATH": packages},
            cwd=home,
            capture_output=True,
            text=True,
            timeout=120,
        )
        if "user namespace" in done.stderr:
            pytest.skip("the kernel gives users no namespaces here")
        assert done.stdout == "hello world\n", done.stderr


def test_the_docstrings_examples_are_true() -> None:
    """What a stranger reads first; those that need a store are skipped, and are what the tests above do."""
    import doctest

    from layersmith.api import buildfile
    from layersmith.api import store as api_store

    assert doctest.testmod(buildfile) == doctest.TestResults(failed=0, attempted=3)
    assert doctest.testmod(api_store).failed == 0
