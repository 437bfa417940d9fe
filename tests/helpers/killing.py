"""SIGKILL at random moments: commands on one store, killed, and what must hold afterwards.

In: a `Layersmith` with a store. Out: a `Tally`; an assertion fails where the store is not clean or an image is another
one than without kills.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import tarfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from program import Layersmith

BUILDFILE = """\
FROM base AS one
RUN mkdir /one && for i in $(seq 200); do echo $i > /one/$i; done
COPY tree /tree
RUN --mount=type=cache,id=kept,target=/kept echo x >> /kept/x && cat /tree/* > /all
FROM base AS two
ARG SALT=0
RUN head -c 3000000 /dev/zero | tr '\\\\0' $SALT > /salt
RUN echo $SALT > /small
FROM base
COPY --from=one /one /one
COPY --from=two /salt /small /
RUN rm /one/1 && mkdir /done && cat /one/* > /done/all
"""
VARIANTS = 5
FULL = 7
FAILED = 4
REFUSED = 8
"""The exit statuses of a store without space, and of a command that ran out of it."""


@dataclass
class Tally:
    """What happened: kills by command, ends before the kill, refusals for want of space, seconds."""

    killed: Counter[str] = field(default_factory=Counter)
    finished: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    compared: int = 0
    seconds: float = 0.0


class KillLoop:
    """A store, commands on it, and a source of randomness that can be had again."""

    def __init__(
        self,
        layersmith: Layersmith,
        work: Path,
        base: Path,
        *,
        registry: str = "",
        seed: int = 0,
        small: bool = False,
    ) -> None:
        self.layersmith = layersmith
        self.work = work
        self.registry = registry
        self.random = random.Random(seed)
        self.small = small
        self.base = base
        self.tally = Tally()
        self.durations: dict[str, float] = {}
        self.digests: dict[int, str] = {}

    def prepare(self) -> None:
        """Files to build from, and the images' digests in a store of their own, where nothing is killed."""
        context = self.work / "context"
        (context / "tree").mkdir(parents=True)
        (context / "Buildfile").write_text(BUILDFILE)
        for number in range(50):
            (context / "tree" / f"{number:02}").write_text(f"{number}\n" * 50)
        with tarfile.open(self.work / "other.tar", "w") as archive:
            for number in range(300):
                info = tarfile.TarInfo(f"file-{number}")
                info.size = 5000
                archive.addfile(info, BytesIO(os.urandom(5000)))
        quiet = self.layersmith.with_store(self.work / "quiet")
        self.import_base(quiet)
        for salt in range(VARIANTS):
            self.digests[salt] = self.build(quiet, salt)
        if self.registry:
            quiet("tag", f"app:{0}", f"{self.registry}/app:0")
            quiet("push", f"{self.registry}/app:0")
        self.import_base(self.layersmith)

    def import_base(self, layersmith: Layersmith) -> None:
        layersmith("import", self.base, "base", "--source-date-epoch", "0")

    def words(self, salt: int) -> list[object]:
        arguments = ["--build-arg", f"SALT={salt}", "--source-date-epoch", "0", "-t", f"app:{salt}"]
        return ["build", "-q", *arguments, self.work / "context"]

    def build(self, layersmith: Layersmith, salt: int) -> str:
        """The image's digest."""
        return layersmith(*self.words(salt)).stdout.strip()

    def command(self) -> tuple[str, list[object]]:
        """The next command to be killed."""
        salt = self.random.randrange(VARIANTS)
        choices: list[tuple[str, list[object]]] = [
            ("build", self.words(salt)),
            ("build --no-cache", [*self.words(salt), "--no-cache"]),
            ("import", ["import", self.work / "other.tar", f"other:{salt}"]),
            ("prune", ["prune"]),
            ("prune --all", ["prune", "--all"]),
            ("prune --keep-storage", ["prune", "--keep-storage", "1MB"]),
        ]
        if self.registry:
            choices.append(("pull", ["pull", f"{self.registry}/app:0"]))
        return self.random.choice(choices)

    def run(self, kills: int, *, compare_each: int = 5) -> Tally:
        """Kill ``kills`` commands; the store is checked after each."""
        started = time.monotonic()
        while sum(self.tally.killed.values()) < kills:
            name, words = self.command()
            if self.random.random() < 0.3:
                # So that pulls and imports have something to do.
                for image in (f"{self.registry}/app:0", "other:0", "app:1"):
                    subprocess_quietly(self.layersmith, "rmi", image)
            outcome = self.kill(name, words)
            outcome[name] += 1
            self.check(f"after {name} (kill {sum(self.tally.killed.values())})")
            if sum(self.tally.killed.values()) % compare_each == 0:
                self.compare()
        for salt in range(VARIANTS):
            self.compare(salt)
        self.tally.seconds = time.monotonic() - started
        return self.tally

    def kill(self, name: str, words: list[object]) -> Counter[str]:
        longest = self.durations.get(name, 1.0)
        begun = time.monotonic()
        with self.layersmith.start(*words) as process:
            try:
                output, _ = process.communicate(timeout=self.random.uniform(0.0, longest * 1.1))
            except subprocess.TimeoutExpired:
                if self.random.random() < 0.5:
                    process.send_signal(signal.SIGKILL)
                else:
                    os.killpg(process.pid, signal.SIGKILL)
                output, _ = process.communicate()
        took = time.monotonic() - begun
        if process.returncode == -signal.SIGKILL:
            self.durations[name] = max(longest * 0.98, took)
            return self.tally.killed
        self.durations[name] = (longest + took) / 2
        if self.small and process.returncode in (FULL, FAILED, REFUSED):
            assert "no space left" in output.lower() or "is the disk of the store full" in output, output
            return self.tally.refused
        assert process.returncode in (0, 5), f"{name}: {process.returncode}\n{output}"
        return self.tally.finished

    def check(self, when: str) -> None:
        done = subprocess_quietly(self.layersmith, "fsck")
        assert done.returncode == 0, f"{when}: {done.stdout}{done.stderr}"

    def compare(self, salt: int | None = None) -> None:
        """Build to the end: the image is what it is without kills."""
        salt = self.random.randrange(VARIANTS) if salt is None else salt
        if self.small:
            for image in (
                "other:0",
                "other:1",
                "other:2",
                "other:3",
                "other:4",
                *(f"app:{n}" for n in range(VARIANTS)),
            ):
                subprocess_quietly(self.layersmith, "rmi", image)
            for line in subprocess_quietly(self.layersmith, "builds", "-q").stdout.split():
                subprocess_quietly(self.layersmith, "builds", "rm", line)
            self.layersmith("prune", "--all")
        if subprocess_quietly(self.layersmith, "inspect", "base").returncode:
            self.import_base(self.layersmith)
        assert self.build(self.layersmith, salt) == self.digests[salt], f"app:{salt} is another image"
        self.tally.compared += 1


def subprocess_quietly(layersmith: Layersmith, *words: object) -> subprocess.CompletedProcess[str]:
    """Run a command whose status may be anything."""
    from program import COMMAND

    done = subprocess.run(
        [*COMMAND, *map(str, words)],
        env=dict(layersmith.environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


@contextmanager
def small_disk(directory: Path, megabytes: int) -> Iterator[Path]:
    """An ext4 file system of that size, in a file, mounted for a block. Raises OSError where the machine can't.

    Blocks of 4 KiB, as on any real disk: mkfs would take 1 KiB, where SQLite's shared memory may get no block (SIGBUS).
    """
    image, mountpoint = directory / "disk.img", directory / "disk"
    mountpoint.mkdir()
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    for command in (
        ["mkfs.ext4", "-q", "-F", "-b", "4096", image],
        ["mount", "-o", "loop", image, mountpoint],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise OSError(f"{command[0]}: {done.stderr.strip()}")
    try:
        yield mountpoint
    finally:
        subprocess.run(["umount", "-l", mountpoint], check=True)
