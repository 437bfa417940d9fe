"""The command blocks of a document. In: its path. Out: scripts for a shell."""

from __future__ import annotations

import re
from pathlib import Path

BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXPECTED = re.compile(r"^(.*?) +# status (\d+)$", re.MULTILINE)


def blocks(path: Path) -> list[str]:
    """The command blocks; a line that ends with ``# status N`` has to end with that status."""
    found = BLOCK.findall(path.read_text())
    return [EXPECTED.sub(r"status=0; \1 || status=$?; test $status = \2", block) for block in found]
