"""SIGKILL at random moments over builds, pulls, prunes and imports; run by hand, as root.

    python tests/benchmarks/kill_loop.py BASE.tar [--kills 300] [--seed 0] [--disk MB] [--work DIR]

BASE.tar is a root file system with a shell and coreutils, such as a busybox's. With ``--disk`` the store lies on an ext4
of that many megabytes, which fills up. Ends with a line of figures, or with the first store that was not clean.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "helpers"))
sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from killing import KillLoop, small_disk
from program import Layersmith

from layersmith.transport.registry.fake import FakeRegistry


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", type=Path)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--disk", type=int, default=0, metavar="MB")
    parser.add_argument("--work", type=Path)
    args = parser.parse_args()
    with ExitStack() as stack:
        work = args.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        work.mkdir(parents=True, exist_ok=True)
        root = stack.enter_context(small_disk(work, args.disk)) if args.disk else work
        registry = stack.enter_context(FakeRegistry())
        loop = KillLoop(
            Layersmith.at(root / "store", work / "home"),
            work,
            args.base.absolute(),
            registry=registry.host,
            seed=args.seed,
            small=bool(args.disk),
        )
        loop.prepare()
        tally = loop.run(args.kills)
    print(f"killed: {dict(tally.killed)}")
    print(
        f"finished before the kill: {dict(tally.finished)}; refused for want of space: {dict(tally.refused)}"
    )
    print(f"{tally.compared} images compared, {tally.seconds:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
