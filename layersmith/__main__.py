"""The command ``layersmith`` and ``python -m layersmith``."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; returns its exit status."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        # Answered before anything is imported, argparse included.
        from layersmith import __version__

        print(f"layersmith {__version__}")
        return 0
    from layersmith.cli import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
