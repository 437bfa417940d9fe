"""The command blocks of a document, and a shell to run scripts in. In: a path, a script. Out: scripts, what they say."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXPECTED = re.compile(r"^(.*?) +# status (\d+)$", re.MULTILINE)


def blocks(path: Path) -> list[str]:
    """The command blocks; a line that ends with ``# status N`` has to end with that status."""
    found = BLOCK.findall(path.read_text())
    return [EXPECTED.sub(r"status=0; \1 || status=$?; test $status = \2", block) for block in found]


def run_script(
    script: str, environment: Mapping[str, str], cwd: Path, *, options: str = "-eux"
) -> tuple[str, str]:
    """What bash, with ``options``, says on standard output and on standard error; it has to succeed."""
    done = subprocess.run(
        ["bash", *options.split(), "-c", script],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr[-4000:]}"
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout, done.stderr
