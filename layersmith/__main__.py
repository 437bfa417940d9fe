"""The command ``layersmith`` and ``python -m layersmith``."""

from __future__ import annotations

import os
import sys

# Type checkers know the name; to import it from typing would take longer than ``--version`` does.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Never


def main() -> int:
    """Run the command line and exit with its status; only ``--version`` returns."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        # Answered before anything is imported, argparse included.
        from layersmith import __version__

        print(f"layersmith {__version__}")
        return 0
    import gc

    # Most of what a command makes it keeps, and cycles are few: looking for them early and often costs a tenth of it.
    gc.set_threshold(100_000, 20, 20)
    from layersmith.cli import run

    return _leave(run(sys.argv[1:]))


def _leave(status: int) -> Never:
    """End at once, as everything is closed: to take the interpreter apart costs as much as a cached build does.

    Nor are threads waited for that a stopped command has given up.
    """
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


if __name__ == "__main__":
    sys.exit(main())
