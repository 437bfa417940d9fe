"""The stream of events: every line as its schema says, nothing of a step's output lost or moved."""

from __future__ import annotations

import base64
import io
import json
import os
import random
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from layersmith.cli.progress.stream import TYPES, JsonProgress
from layersmith.progress import Event, StepFinished, StepOutput, StepStarted

jsonschema = pytest.importorskip("jsonschema", reason="needs jsonschema")

SCHEMA = json.loads(files("layersmith.cli.progress").joinpath("events.schema.json").read_text())
VALID = jsonschema.Draft202012Validator(SCHEMA)


def written(*events: Event) -> list[dict[str, Any]]:
    stream = io.StringIO()
    progress = JsonProgress(stream)
    for event in events:
        progress.emit(event)
    progress.close(None)
    found = [json.loads(line) for line in stream.getvalue().splitlines()]
    for one in found:
        VALID.validate(one)
    return found


def output(events: list[dict[str, Any]], stream: str) -> bytes:
    mine = [e for e in events if e["type"] == "step.output" and e["stream"] == stream]
    return b"".join(e["text"].encode() if "text" in e else base64.b64decode(e["base64"]) for e in mine)


def test_the_schema_has_every_event() -> None:
    """And is a schema."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    described = {one["properties"]["type"]["const"] for one in SCHEMA["oneOf"]}
    assert described == {*TYPES.values(), "failed"}


@pytest.mark.parametrize("seed", range(20))
def test_output_comes_back_byte_for_byte(seed: int) -> None:
    """However it was cut: in the middle of a character, or if it is no text at all."""
    chance = random.Random(seed)
    whole = "".join(chance.choices("ab\né日😀", k=200)).encode()
    if seed % 2:
        whole = bytes(chance.choices(whole + b"\xff\xfe\xe6\x97", k=300))
    cuts = sorted(chance.choices(range(len(whole)), k=12))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    events = written(
        StepStarted(1, "RUN x"),
        *(StepOutput(1, 1, piece) for piece in pieces),
        StepFinished(1, "RUN x", "ran", 1),
    )
    assert output(events, "stdout") == whole
    assert events[-1]["type"] == "step.finished"


def test_invalid_bytes_do_not_hold_back_text() -> None:
    """Only the piece that they are in is written in base64."""
    events = written(StepOutput(1, 2, b"one"), StepOutput(1, 2, b"\xff"), StepOutput(1, 2, b"two"))
    assert [e.get("text", e.get("base64")) for e in events] == ["one", "/w==", "two"]


@pytest.mark.root
def test_a_real_builds_events(tmp_path: Path) -> None:
    """Each line of standard error is one, in the order of what happened; the last one of a failed build says why."""
    (tmp_path / "Buildfile").write_text(
        "FROM base AS a\nRUN printf 'out\\n'; printf 'err\\377\\n' >&2\n"
        "FROM base\nCOPY --from=a /bin/sh /sh\nRUN exit 3\n"
    )
    run(tmp_path, "import", "--host", "sh", "base")
    failed = run(tmp_path, "build", "--progress=json", str(tmp_path), status=4)
    events = [json.loads(line) for line in failed.splitlines()]
    for event in events:
        VALID.validate(event)
    assert output(events, "stdout") == b"out\n"
    assert events[-1]["type"] == "failed"
    assert (events[-1]["file"], events[-1]["line"], events[-1]["exit_code"]) == ("Buildfile", 5, 4)
    done = run(tmp_path, "build", "--progress=json", "--no-cache", "-t", "x", "--target", "a", str(tmp_path))
    events = [json.loads(line) for line in done.splitlines()]
    for event in events:
        VALID.validate(event)
    kinds = [event["type"] for event in events]
    assert kinds[0] == "planned"
    assert kinds[-1] == "built"
    assert output(events, "stdout") == b"out\n"
    assert output(events, "stderr") == b"err\xff\n"
    assert kinds.index("step.started") < kinds.index("step.output") < kinds.index("step.finished")
    assert "layer.packed" in kinds
    assert events[-1]["names"] == ["x:latest"] or events[-1]["names"] == ["x"]


def run(directory: Path, *words: str, status: int = 0) -> str:
    env = os.environ | {"LAYERSMITH_ROOT": str(directory / "store")}
    done = subprocess.run(
        [sys.executable, "-m", "layersmith", *words],
        capture_output=True,
        text=True,
        env=env,
        cwd=directory,
        timeout=60,
    )
    assert done.returncode == status, done.stderr
    return done.stderr
