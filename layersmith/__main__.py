"""The command ``layersmith`` and ``python -m layersmith``."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run the command line; returns its exit status."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        # Answered before anything is imported, argparse included.
        from layersmith import __version__

        print(f"layersmith {__version__}")
        return 0
    from layersmith.cli import run
    from layersmith.errors import Cancelled

    status = run(sys.argv[1:])
    if status == Cancelled.exit_code:
        _leave(status)
    return status


def _leave(status: int) -> None:
    """End at once: the interpreter would wait for threads that nobody waits for any more."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


if __name__ == "__main__":
    sys.exit(main())
