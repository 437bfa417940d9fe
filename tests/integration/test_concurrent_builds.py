"""Builds that start together on one store: each distinct step runs once, and killing some of them harms no other."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from program import Layersmith

pytestmark = pytest.mark.root

BUILDS = 8
BUILDFILE = """\
FROM base AS shared
RUN echo RAN shared-one >&2; sleep 0.4; echo one > /one
RUN echo RAN shared-two >&2; sleep 0.4; cat /one > /two; echo two >> /two
FROM base AS other
RUN echo RAN other >&2; sleep 0.3; echo other > /other
FROM shared
COPY --from=other /other /other
ARG PAIR
RUN echo RAN pair-$PAIR >&2; sleep 0.2; cat /two /other > /all; echo $PAIR >> /all
"""


def start(layersmith: Layersmith, context: Path, number: int) -> subprocess.Popen[str]:
    """Build ``app:number``; two builds have each value of PAIR."""
    words = ["build", "--progress=plain", "-t", f"app:{number}", "--build-arg", f"PAIR={number // 2}"]
    return layersmith.start(*words, context)


def ran(outputs: list[str]) -> Counter[str]:
    """How often each step's command wrote its line."""
    return Counter(
        word for text in outputs for word in re.findall(r"^#\d+ .*?\bRAN ([\w-]+)$", text, re.MULTILINE)
    )


def check_images(layersmith: Layersmith, numbers: list[int]) -> None:
    for number in numbers:
        done = layersmith("run", "--rm", f"app:{number}", "cat", "/all")
        assert done.stdout == f"one\ntwo\nother\n{number // 2}\n"
    digests = {(number // 2, layersmith.digest(f"app:{number}")) for number in numbers}
    assert len(digests) == len({number // 2 for number in numbers}), "the same build is the same image"
    layersmith("fsck")


def test_each_distinct_step_runs_once(layersmith: Layersmith, context: Path, base: str) -> None:
    """8 builds at once: whoever comes second waits for the first, and takes its result."""
    (context / "Buildfile").write_text(BUILDFILE)
    processes = [start(layersmith, context, number) for number in range(BUILDS)]
    outputs = [process.communicate(timeout=100)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * BUILDS, outputs
    steps = ["shared-one", "shared-two", "other", *(f"pair-{n}" for n in range(BUILDS // 2))]
    assert ran(outputs) == Counter(steps)
    check_images(layersmith, list(range(BUILDS)))


@pytest.mark.parametrize("seed", range(3))
def test_two_of_them_are_killed(layersmith: Layersmith, context: Path, base: str, seed: int) -> None:
    """The others finish with the right images; a step runs again only if it was taken along by a kill."""
    (context / "Buildfile").write_text(BUILDFILE)
    chance = random.Random(seed)
    processes = [start(layersmith, context, number) for number in range(BUILDS)]
    victims = chance.sample(range(BUILDS), 2)
    for victim in victims:
        time.sleep(chance.uniform(0.1, 0.8))
        os.kill(processes[victim].pid, signal.SIGKILL)
    outputs = [process.communicate(timeout=100)[0] for process in processes]
    survivors = [number for number in range(BUILDS) if processes[number].returncode == 0]
    killed = [number for number in victims if processes[number].returncode == -signal.SIGKILL]
    assert sorted(survivors + killed) == list(range(BUILDS)), outputs
    often = ran(outputs)
    assert sum(often.values()) <= 7 + 2 * len(killed), often
    assert max(often.values()) <= 1 + len(killed), often
    check_images(layersmith, survivors)
    for number in killed:
        with start(layersmith, context, number) as process:
            output, _ = process.communicate(timeout=100)
        assert process.returncode == 0, output
        assert set(ran([output])) <= {f"pair-{number // 2}"}
    check_images(layersmith, list(range(BUILDS)))
    assert not layersmith.processes()
