"""The escape suite where people's commands run: inside a RUN step, and inside ``run``; as root and rootless.

The attempts are those of tests/linux/escape_attempts.py, which tests/linux/test_escape.py lists with Docker's answers.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from box import BUSYBOX, Box, boxed

ATTEMPTS = Path(__file__).parents[1] / "linux/escape_attempts.py"
PYTHON = "/usr/bin/python3"

pytestmark = [
    pytest.mark.skipif(BUSYBOX is None, reason="needs a static busybox"),
    pytest.mark.skipif(not os.path.exists(PYTHON), reason=f"needs {PYTHON}"),
    pytest.mark.xdist_group("escape"),
]


@pytest.fixture(scope="module", params=["root", "rootless"])
def box(request: pytest.FixtureRequest) -> Iterator[Box]:
    """With the image ``python``: this machine's own, and the attempts."""
    with boxed(request.param) as made:
        libffi = shared_library("_ctypes", "libffi")
        made("import", "--host", PYTHON, "sh", *libffi, "python")
        context = made.home / "attempts"
        context.mkdir()
        shutil.copy(ATTEMPTS, context / "escape_attempts.py")
        (context / "escape_attempts.py").chmod(0o644)
        yield made


def shared_library(module: str, name: str) -> list[str]:
    """The path of the library that one of Python's modules loads."""
    where = subprocess.run(
        [PYTHON, "-c", f"import {module}; print({module}.__file__)"], capture_output=True, text=True
    )
    linked = subprocess.run(["ldd", where.stdout.strip()], capture_output=True, text=True)
    return [line.split()[2] for line in linked.stdout.splitlines() if name in line]


def standard_library() -> str:
    """Its directory."""
    done = subprocess.run(
        [PYTHON, "-c", "import os; print(os.path.dirname(os.__file__))"], capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture(scope="module")
def surroundings(box: Box) -> Iterator[dict[str, str]]:
    """What the attempts are told of the host: a canary, a process and a socket of its."""
    canary = box.home / "canary"
    canary.write_text("secret")
    name = f"layersmith-escape-{os.getpid()}-{box.mode}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0" + name)
        server.listen()
        yield {
            "CANARY": os.fspath(canary),
            "HOST_PID": str(os.getpid()),
            "READ_ONLY": standard_library(),
            "ABSTRACT": name,
        }
        assert canary.read_text() == "secret"


def test_inside_a_step(box: Box, surroundings: dict[str, str]) -> None:
    """Every attempt fails."""
    variables = "".join(f"ENV {name}={value}\n" for name, value in surroundings.items())
    text = (
        f"FROM python\n{variables}COPY escape_attempts.py /\n"
        f"RUN --mount=type=bind,from=stdlib,target={standard_library()} {PYTHON} /escape_attempts.py > /result\n"
    )
    flags = ("--network=none", "--build-context", f"stdlib={standard_library()}", "-t", "tried")
    done = box.raw("build", "--no-cache", *flags, "-f", "-", "attempts", stdin=text.encode())
    assert done.returncode == 0, done.stderr.decode()
    assert not escaped(
        json.loads(box("run", "--rm", "tried", "sh", "-c", 'read -r line < /result; echo "$line"'))
    )


def test_inside_run(box: Box, surroundings: dict[str, str]) -> None:
    """Every attempt fails. With an init, for else PID 1 is the program itself, which may do to itself what it likes."""
    words = [word for name, value in surroundings.items() for word in ("-e", f"{name}={value}")]
    volumes = (
        "-v",
        f"{standard_library()}:{standard_library()}:ro",
        "-v",
        f"{box.home}/attempts:/attempts:ro",
    )
    flags = ("--rm", "--network=none", *volumes, *words, "--init")
    found = json.loads(box("run", *flags, "python", PYTHON, "/attempts/escape_attempts.py"))
    assert not escaped(found)


def escaped(found: dict[str, str]) -> set[str]:
    """The attempts that were not held back by an error of the kernel's."""
    assert len(found) > 60
    return {name for name, ended in found.items() if not ended.startswith("E")}
