"""How time and memory grow with what is built: files, steps, stages, builds at once, images in the store.

    python tests/benchmarks/bench_growth.py BASE.tar DIRECTORY [--only files,steps,…] [--most N] [-o DIRECTORY]

As root. BASE.tar is a root file system with a shell, such as a busybox's; DIRECTORY is where stores and contexts go, and
is reused. Prints wall and CPU seconds and the peak memory of the largest process for each size, and how each grows: the
slope in a log-log plot, of what is above the smallest size's (1 is linear). With ``-o``, growth.json and,
if matplotlib is installed (the extra ``bench``), a plot for each series go there.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

COMMAND = (sys.executable, "-m", "layersmith")


@dataclass(frozen=True)
class Point:
    """What one size cost: seconds, and MiB of the largest process."""

    size: int
    wall: float
    cpu: float
    memory: float


class Bench:
    """Runs the command on stores of its own."""

    def __init__(self, base: Path, work: Path) -> None:
        self.base = base
        self.work = work
        work.mkdir(parents=True, exist_ok=True)

    def store(self, name: str) -> dict[str, str]:
        """The environment for a fresh store with the base image in it."""
        root = self.work / f"store-{name}"
        if root.exists():
            root.rename(self.work / f"old-{time.time_ns()}")  # deleted at the end: see bench_layer
        environment = {**os.environ, "LAYERSMITH_ROOT": os.fspath(root)}
        subprocess.run(
            [*COMMAND, "import", self.base, "base"], env=environment, check=True, capture_output=True
        )
        return environment

    def context(self, name: str, text: str) -> Path:
        directory = self.work / f"context-{name}"
        directory.mkdir(exist_ok=True)
        (directory / "Buildfile").write_text(text)
        return directory

    def close(self) -> None:
        for path in self.work.glob("old-*"):
            shutil.rmtree(path)


Series = Callable[[Bench, int], Iterator[Point]]
"""Yields a point for each size, up to a largest one (0: the series' own)."""


def measured(size: int, environment: dict[str, str], *commands: tuple[object, ...]) -> Point:
    """All ``commands`` at once."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    running = [
        subprocess.Popen(
            [*COMMAND, *map(str, words)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        for words in commands
    ]
    peak = 0
    for process in running:
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(said.decode())
        peak = max(peak, used.ru_maxrss)
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Point(size, wall, cpu, peak / 1024)


def build(context: Path, *flags: str) -> tuple[object, ...]:
    return ("build", "-q", "--network=host", *flags, context)


def fill(directory: Path, files: int) -> None:
    """``files`` small files, a hundred to a directory, unless they are there."""
    if directory.exists():
        return
    for number in range(0, files, 100):
        inner = directory / f"{number // 10_000:03}" / f"{number // 100:05}"
        inner.mkdir(parents=True)
        for file in range(number, min(files, number + 100)):
            (inner / f"file-{file:07}").write_bytes(b"%d\n" % file * 40)


def files(lines: str, most_of_all: int = 1_000_000) -> Series:
    """A context with so many files, for a Buildfile of ``lines``."""

    def series(bench: Bench, most: int) -> Iterator[Point]:
        for size in sizes(1000, most or most_of_all, 10):
            context = bench.context(f"files-{size}", "FROM base\n" + lines)
            fill(context / "src", size)
            yield measured(size, bench.store("files"), build(context))

    return series


def numbered(size: int) -> str:
    """A Buildfile with so many RUN steps in a row."""
    return "FROM base\n" + "".join(f"RUN echo {number} >/f{number}\n" for number in range(size))


def steps(bench: Bench, most: int) -> Iterator[Point]:
    for size in sizes(10, most or 400, 2):
        yield measured(size, bench.store("steps"), build(bench.context("steps", numbered(size))))


def steps_cached(bench: Bench, most: int) -> Iterator[Point]:
    for size in sizes(10, most or 400, 2):
        store = bench.store("steps")
        measured(size, store, build(bench.context("steps", numbered(size))))
        yield measured(size, store, build(bench.context("steps", numbered(size) + "RUN echo new >/new\n")))


def stages(bench: Bench, most: int) -> Iterator[Point]:
    for size in sizes(1, most or 100, 3):
        text = "".join(f"FROM base AS s{n}\nRUN echo {n} >/o{n}\n" for n in range(size))
        text += "FROM base\n" + "".join(f"COPY --from=s{n} /o{n} /\n" for n in range(size))
        yield measured(size, bench.store("stages"), build(bench.context("stages", text)))


def builds(bench: Bench, most: int) -> Iterator[Point]:
    lines = "".join(f"RUN echo $WHO {number} >/f{number}\n" for number in range(10))
    context = bench.context("builds", "FROM base\nARG WHO\n" + lines)
    for size in sizes(1, most or 16, 2):
        commands = [build(context, f"--build-arg=WHO={number}") for number in range(size)]
        yield measured(size, bench.store("builds"), *commands)


MAKE_IMAGES = """
import sys
from pathlib import Path
from layersmith.dataclass import replace
from layersmith.image import SCRATCH
from layersmith.layer.compress import Compression
from layersmith.layer.entry import REG, Entry, Item
from layersmith.layer.pack import pack
from layersmith.oci.config import History
from layersmith.store import Store
with Store.open(Path(sys.argv[1])) as store:
    for number in range(int(sys.argv[2]), int(sys.argv[3])):
        data = b"%d" % number
        layer = pack(store, [(Entry(b"file", REG, 0o644, size=len(data)), data)], compression=Compression()).layer
        store.refs.set(f"image{number}", SCRATCH().append(layer, History(created_by="made")).write(store))
"""


def images(*verb: object) -> Series:
    """What a command costs with so many images in the store."""

    def series(bench: Bench, most: int) -> Iterator[Point]:
        store = bench.store("images")
        context = bench.context("images", "FROM base\nRUN echo x >/x\n")
        measured(0, store, build(context))
        made = 0
        for size in sizes(10, most or 10_000, 10):
            words = [sys.executable, "-c", MAKE_IMAGES, store["LAYERSMITH_ROOT"], str(made), str(size)]
            subprocess.run(words, check=True)
            made = size
            yield measured(size, store, (*verb, context) if verb[0] == "build" else verb)

    return series


SERIES: dict[str, tuple[str, Series]] = {
    "files": ("COPY of so many files", files("COPY src /src\n")),
    "files+run": ("COPY of so many files, and a RUN that sees them", files("COPY src /src\nRUN true\n")),
    "files-run": (
        "a RUN that copies so many files",
        files("RUN --mount=target=/context cp -a /context/src /written\n", 100_000),
    ),
    "steps": ("so many RUN steps in a row", steps),
    "steps-last": ("so many RUN steps, of which the last is new", steps_cached),
    "stages": ("so many stages with a RUN each, and one that copies from all", stages),
    "builds": ("so many builds at once on one store, ten steps each, none in common", builds),
    "images": ("`images` with so many in the store", images("images", "-q")),
    "images-cached": ("a cached build with so many images in the store", images("build", "-q")),
    "images-run": (
        "a RUN with so many images in the store",
        images("build", "-q", "--no-cache", "--network=host"),
    ),
    "images-prune": ("`prune --dry-run` with so many images in the store", images("prune", "--dry-run")),
}


def sizes(first: int, last: int, factor: int) -> list[int]:
    found = [first]
    while found[-1] * factor < last:
        found.append(found[-1] * factor)
    return [size for size in found if size < last] + [last]


def exponent(points: list[Point], what: str) -> float:
    """The slope of a line through the points in a log-log plot, of what is above the smallest size's; 1 is linear."""
    first = points[0]
    above = [
        (math.log(point.size), math.log(getattr(point, what) - getattr(first, what)))
        for point in points[1:]
        if getattr(point, what) > getattr(first, what)
    ]
    if len(above) < 2:
        return 0.0
    return statistics.linear_regression(*zip(*above, strict=True)).slope


def plot(name: str, title: str, points: list[Point], directory: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (times, memory) = pyplot.subplots(1, 2, figsize=(10, 4))
    for what in ("wall", "cpu"):
        times.loglog([p.size for p in points], [getattr(p, what) for p in points], "o-", label=f"{what} s")
    memory.semilogx([p.size for p in points], [p.memory for p in points], "o-", label="MiB")
    memory.set_ylim(bottom=0)
    for axes in (times, memory):
        axes.grid(visible=True, alpha=0.3)
        axes.legend()
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(directory / f"{name}.png", dpi=100)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("base", type=Path)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--only", default=",".join(SERIES))
    parser.add_argument("--most", type=int, default=0, help="the largest size, instead of the series' own")
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    bench = Bench(args.base.absolute(), args.directory.absolute())
    found: dict[str, list[Point]] = {}
    for name in args.only.split(","):
        points = found[name] = []
        for point in SERIES[name][1](bench, args.most):
            points.append(point)
            print(
                f"{name:14} {point.size:>9,}  wall {point.wall:8.2f} s  cpu {point.cpu:8.2f} s"
                f"  memory {point.memory:6.0f} MiB",
                flush=True,
            )
        if len(points) > 2:
            grows = ", ".join(f"{what} {exponent(points, what):.2f}" for what in ("wall", "cpu", "memory"))
            print(f"{name:14} exponent: {grows}")
    if args.output is not None:
        args.output.mkdir(parents=True, exist_ok=True)
        data = {name: [asdict(point) for point in points] for name, points in found.items()}
        (args.output / "growth.json").write_text(json.dumps(data, indent=2))
        try:
            for name, points in found.items():
                plot(name, SERIES[name][0], points, args.output)
        except ImportError:
            print("no plots: matplotlib is not installed (the extra bench)")
    bench.close()


if __name__ == "__main__":
    main()
