"""Packing and unpacking against tar and zstd on the same files: python tests/benchmarks/bench_layer.py DIRECTORY

Generates two trees below DIRECTORY (40,000 small files; 1 GB in 28) unless they are there, then runs both sides in
turns, each in a process of its own, and prints medians, their ratio, and the peak memory of ours. Old output is moved
aside and deleted at the end only: on some file systems, deleting slows down what is created next.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

OURS = """
import sys
import time
from pathlib import Path
from layersmith.layer.compress import parse_compression
from layersmith.layer.pack import pack
from layersmith.layer.scan import scan
from layersmith.layer.unpack import unpack
from layersmith.oci.descriptor import Descriptor, Layer
from layersmith.store import Store
what, root, argument = sys.argv[1:4]
with Store.open(Path(root)) as store:
    started = time.perf_counter()
    if what == "pack":
        layer = pack(store, scan(Path(argument)), compression=parse_compression(sys.argv[4])).layer
        print(layer.descriptor.media_type, layer.descriptor.digest, layer.descriptor.size, layer.diff_id)
    else:
        media_type, digest, size, diff_id = argument.split()
        print(unpack(store, Layer(Descriptor(media_type, digest, int(size)), diff_id)))
    print(time.perf_counter() - started)
print(*(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def generate(top: Path, *, files: int, mean: float, most: int) -> None:
    """``files`` files in a tree of directories: half text, half text and noise, log-normally long around ``mean``."""
    rng = random.Random(7)
    words = [bytes(rng.choices(b"abcdefghijklmnopqrstuvwxyz_", k=rng.randint(2, 10))) for _ in range(4000)]
    text = b" ".join(rng.choices(words, k=2_000_000))
    noise = rng.randbytes(8 << 20)

    def content(size: int) -> bytes:
        out = bytearray()
        while len(out) < size:
            for source in (text, text if rng.random() < 0.6 else noise):
                part = min(size // 2 + 1, 4 << 20)
                at = rng.randrange(len(source) - part)
                out += source[at : at + part]
        return bytes(out[:size])

    for number in range(files):
        folder = top / f"package{number // 1600:02}" / f"module{number // 40 % 40:02}" / "lib"
        folder.mkdir(parents=True, exist_ok=True)
        size = min(int(rng.lognormvariate(mean, 1.3)), most) if files > 100 else most
        (folder / f"file_{number:05}.py").write_bytes(content(size))


class Bench:
    """Runs the two sides in turns in ``top``."""

    def __init__(self, top: Path, rounds: int) -> None:
        self.top = top
        self.rounds = rounds
        self.trash = top / f"trash-{os.getpid()}"
        self.trash.mkdir()

    def aside(self, path: Path) -> None:
        if path.exists():
            path.rename(self.trash / f"{path.name}-{time.monotonic_ns()}")

    def shell(self, command: str) -> float:
        started = time.perf_counter()
        subprocess.run(["bash", "-o", "pipefail", "-c", command], check=True, cwd=self.top)
        return time.perf_counter() - started

    def ours(self, *arguments: str) -> tuple[float, str, int]:
        """Seconds of the work (a build has long started Python by then), what it printed, its peak memory in KiB."""
        done = subprocess.run(
            [sys.executable, "-c", OURS, *arguments],
            check=True,
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        line, seconds, memory = done.stdout.splitlines()
        return float(seconds), line, int(memory)

    def compare(
        self, name: str, tree: Path, compression: str, pack_command: str, unpack_command: str
    ) -> None:
        times: dict[str, list[float]] = {"pack": [], "tar": [], "unpack": [], "untar": []}
        memory = {"pack": 0, "unpack": 0}
        for number in range(self.rounds):
            times["tar"].append(self.shell(pack_command.format(tree=tree.name)))
            store, out = self.top / f"store-{number}", self.top / f"out-{number}"
            seconds, layer, peak = self.ours("pack", str(store), str(tree), compression)
            times["pack"].append(seconds)
            memory["pack"] = max(memory["pack"], peak)
            out.mkdir()
            times["untar"].append(self.shell(unpack_command.format(out=out.name)))
            seconds, _, peak = self.ours("unpack", str(store), layer)
            times["unpack"].append(seconds)
            memory["unpack"] = max(memory["unpack"], peak)
            self.aside(store)
            self.aside(out)
        median = {what: statistics.median(values) for what, values in times.items()}
        for what, other in (("pack", "tar"), ("unpack", "untar")):
            ratio = median[what] / median[other]
            print(
                f"{name:12} {compression:6} {what:6} {median[what]:6.2f} s  against {median[other]:6.2f} s:"
                f"  {ratio:4.2f}  (best {min(times[what]):.2f} / {min(times[other]):.2f}, "
                f"peak {memory[what] // 1024} MiB)",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--gzip", action="store_true", help="compare gzip layers with tar | gzip -1 as well")
    options = parser.parse_args()
    options.directory.mkdir(parents=True, exist_ok=True)
    small, large = options.directory / "small", options.directory / "large"
    for tree, files, mean, most in ((small, 40_000, 8.7, 2_000_000), (large, 28, 0.0, 40_000_000)):
        if not tree.exists():
            generate(tree, files=files, mean=mean, most=most)
    bench = Bench(options.directory, options.rounds)
    kinds = [("zstd", "zstd -q -T2 -3 -f -o out.tar.zst", "zstd -qdc out.tar.zst")]
    if options.gzip:
        kinds.append(("gzip", "gzip -1 > out.tar.gz", "gzip -dc out.tar.gz"))
    for compression, compress, decompress in kinds:
        for name, tree in (("small files", small), ("large files", large)):
            bench.compare(
                name,
                tree,
                compression,
                "tar -cC {tree} . | " + compress,
                decompress + " | tar -xpC {out} --numeric-owner",
            )
    shutil.rmtree(bench.trash)


if __name__ == "__main__":
    main()
