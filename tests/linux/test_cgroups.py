"""Limits: the files that are written, on both versions, and what the kernel then does."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layersmith.errors import SandboxError, UsageError
from layersmith.linux import cgroups
from layersmith.linux.cgroups import Cgroup
from layersmith.linux.limits import Limits

pytestmark = pytest.mark.xdist_group("machine")

Box = Callable[..., dict[str, Any]]
MEBI = 1 << 20


@pytest.mark.parametrize(
    ("limits", "first", "second"),
    [
        (Limits(), {}, {}),
        (
            Limits(memory=8 * MEBI),
            {"memory.limit_in_bytes": "8388608", "memory.memsw.limit_in_bytes": "16777216"},
            {"memory.max": "8388608", "memory.swap.max": "8388608"},
        ),
        (
            Limits(memory=8 * MEBI, memory_swap=-1),
            {"memory.limit_in_bytes": "8388608", "memory.memsw.limit_in_bytes": "-1"},
            {"memory.max": "8388608", "memory.swap.max": "max"},
        ),
        (
            Limits(memory=8 * MEBI, memory_swap=8 * MEBI),
            {"memory.limit_in_bytes": "8388608", "memory.memsw.limit_in_bytes": "8388608"},
            {"memory.max": "8388608", "memory.swap.max": "0"},
        ),
        (
            Limits(cpus=1.5, cpuset="0-2", pids=7),
            {
                "cpu.cfs_period_us": "100000",
                "cpu.cfs_quota_us": "150000",
                "cpuset.cpus": "0-2",
                "pids.max": "7",
            },
            {"cpu.max": "150000 100000", "cpuset.cpus": "0-2", "pids.max": "7"},
        ),
    ],
)
def test_what_is_written(limits: Limits, first: dict[str, str], second: dict[str, str]) -> None:
    """docker's options as the files of cgroup v1 and v2."""
    assert {file: value for _, file, value in limits.settings(1)} == first
    assert {file: value for _, file, value in limits.settings(2)} == second


@pytest.mark.parametrize("limits", [Limits(memory_swap=5), Limits(memory=10, memory_swap=5)])
def test_nonsense(limits: Limits) -> None:
    """Swap without memory, or less than it."""
    with pytest.raises(UsageError, match="--memory-swap"):
        limits.settings(2)


def machine(tmp_path: Path, version: int, controllers: str = "cpu cpuset memory pids") -> tuple[Path, Path]:
    """A /sys/fs/cgroup and a /proc with this process in the group /a/b. Plain files take what is written."""
    root, proc = tmp_path / "cgroup", tmp_path / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / str(os.getpid())).mkdir()
    (proc / str(os.getpid()) / "stat").write_text(f"{os.getpid()} (py (x)) S " + "0 " * 18 + "777 0\n")
    lines, own = [], []
    names = controllers.split()
    for number, name in enumerate(names if version == 1 else [""]):
        point = root / name
        (point / "a/b").mkdir(parents=True)
        options = f"rw,{name}" if name else "rw"
        kind = "cgroup" if version == 1 else "cgroup2"
        lines.append(f"{number} 1 0:9 / {point} rw - {kind} {kind} {options}")
        own.append(f"{number}:{name}:/a/b")
        (point / "a/b/cgroup.controllers").write_text(controllers)
        (point / "a/b/cpuset.cpus").write_text("0-3\n")
        (point / "a/b/cpuset.mems").write_text("0\n")
    (proc / "self/cgroup").write_text("\n".join(own) + "\n")
    (proc / "self/mountinfo").write_text("\n".join(lines) + "\n")
    return root, proc


def test_version_1_has_a_group_in_each_tree(tmp_path: Path) -> None:
    """Below our own group in each; a cpuset starts with its parent's memory nodes."""
    root, proc = machine(tmp_path, 1)
    made = cgroups.create(Limits(memory=MEBI, memory_swap=-1, cpuset="1"), root=root, proc=proc)
    memory, cpuset = (Path(d) for d in made.directories)
    assert memory.parent == root / "memory/a/b/layersmith"
    assert (memory / "memory.limit_in_bytes").read_text() == "1048576"
    assert (cpuset / "cpuset.cpus").read_text() == "1"
    assert (cpuset / "cpuset.mems").read_text() == "0\n"


def test_version_2_has_one_group(tmp_path: Path) -> None:
    """With the controllers handed down to it."""
    root, proc = machine(tmp_path, 2)
    made = cgroups.create(Limits(memory=MEBI, pids=9), root=root, proc=proc)
    (only,) = (Path(d) for d in made.directories)
    assert only.parent == root / "a/b/layersmith"
    assert (only / "memory.max").read_text() == "1048576"
    assert (only / "pids.max").read_text() == "9"
    assert (root / "a/b/cgroup.subtree_control").read_text() == "+pids"
    assert (only.parent / "cgroup.subtree_control").read_text() == "+pids"


def test_a_missing_controller_is_an_error(tmp_path: Path) -> None:
    """Never silence."""
    root, proc = machine(tmp_path, 2, "cpu pids")
    with pytest.raises(SandboxError, match="this machine can't limit memory") as caught:
        cgroups.create(Limits(memory=MEBI), root=root, proc=proc)
    assert "systemd-run" in caught.value.hint
    assert not (root / "a/b/layersmith").exists()


def test_no_limit_needs_no_group(tmp_path: Path) -> None:
    """On a machine without any control groups, too."""
    assert cgroups.create(Limits(), root=tmp_path, proc=tmp_path).directories == ()


def test_sweep_takes_only_what_nobody_owns(tmp_path: Path) -> None:
    """A group whose maker lives stays; one of a dead process, or of an earlier one with the same id, goes."""
    _, proc = machine(tmp_path, 2)
    parent = tmp_path / "layersmith"
    for name in (f"{os.getpid()}.777.aa", f"{os.getpid()}.776.bb", "4194305.1.cc", "other"):
        (parent / name).mkdir(parents=True)
    cgroups.sweep(parent, proc)
    assert sorted(p.name for p in parent.iterdir()) == [f"{os.getpid()}.777.aa", "other"]


def test_oom_kills_are_counted(tmp_path: Path) -> None:
    """From memory.events (v2) or memory.oom_control (v1)."""
    for number, text in enumerate(
        ("low 0\noom 3\noom_kill 2\n", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
    ):
        group = tmp_path / str(number)
        group.mkdir()
        (group / ("memory.oom_control" if number else "memory.events")).write_text(text)
    assert Cgroup(Limits(), ((2, tmp_path / "0"), (1, tmp_path / "1"))).oom_kills() == 3


@pytest.fixture
def limited() -> Any:
    """``limited(limits)``: a real group of this machine, or a skip."""
    made = []

    def make(limits: Limits) -> Cgroup:
        try:
            made.append(cgroups.create(limits))
        except SandboxError as error:
            pytest.skip(f"{error.message}")
        return made[-1]

    yield make
    for group in made:
        directories = group.directories
        group.close()
        assert not any(Path(d).exists() for d in directories)


@pytest.mark.root
def test_out_of_memory(box: Box, limited: Any) -> None:
    """A command that needs more than its limit is killed, and the group says so."""
    group = limited(Limits(memory=16 * MEBI, memory_swap=16 * MEBI))
    result = box("head -c 100000000 /dev/zero | tail -c 60000000 > /dev/null", cgroups=group.directories)
    assert result["status"] == 137
    assert group.oom_kills() >= 1


@pytest.mark.root
def test_limits_can_be_read_inside(box: Box, limited: Any) -> None:
    """Where a JVM looks: /sys/fs/cgroup shows the container's own group, and can't be written."""
    group = limited(Limits(memory=16 * MEBI))
    script = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes; touch /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/memory/cgroup.procs"
    output = box(f"({script}) 2>&1", cgroups=group.directories)["output"]
    assert "16777216\n" in output
    assert "Read-only file system" in output


@pytest.mark.root
def test_number_of_processes(box: Box, limited: Any) -> None:
    """fork fails at the limit."""
    group = limited(Limits(pids=8))
    result = box("for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done; wait", cgroups=group.directories)
    assert "can't fork" in result["output"]


@pytest.mark.root
def test_processors(box: Box, limited: Any) -> None:
    """Only those of the set are there to be used."""
    group = limited(Limits(cpuset="0"))
    assert box("nproc", cgroups=group.directories)["output"] == "1\n"


@pytest.mark.root
def test_share_of_processor_time(box: Box, limited: Any) -> None:
    """A busy loop in a fifth of a processor has been held back by the kernel."""
    group = limited(Limits(cpus=0.2))
    result = box("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done", cgroups=group.directories)
    assert result["status"] == 0
    rows = [
        line.split() for d in group.directories for line in (Path(d) / "cpu.stat").read_text().splitlines()
    ]
    assert next(int(value) for key, value in rows if key == "nr_throttled") > 0
