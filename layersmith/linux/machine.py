"""What the spawner knows of this machine. In: /proc of the calling process. Out: `Machine`."""

from __future__ import annotations

from pathlib import Path

from layersmith.dataclass import dataclass
from layersmith.linux import libc
from layersmith.linux.cgroups import Hierarchy, hierarchies


@dataclass(frozen=True, slots=True)
class Machine:
    """What is the same for all sandboxes of a spawner, found out once, before the first.

    ``groups``: how many group ids exist in this user namespace, from 0 on. ``setgroups``: whether supplementary
    groups may be set. ``permitted``: the spawner's own capabilities. ``cgroups``: whether /sys/fs/cgroup is to be
    mounted, and the controllers of version 1, none for version 2.
    """

    rootless: bool
    groups: int
    setgroups: bool
    permitted: int
    last_capability: int
    cgroups: tuple[str, ...] | None

    @classmethod
    def inspect(cls) -> Machine:
        rows = [line.split() for line in Path("/proc/self/gid_map").read_text().splitlines()]
        groups = sum(int(row[2]) for row in rows)
        return cls(
            rootless=groups < (1 << 32) - 1,
            groups=groups,
            setgroups=Path("/proc/self/setgroups").read_text().strip() == "allow",
            permitted=libc.capget()[1],
            last_capability=int(Path("/proc/sys/kernel/cap_last_cap").read_text()),
            cgroups=_cgroups(hierarchies(), rootless=groups < (1 << 32) - 1),
        )


def _cgroups(trees: tuple[Hierarchy, ...], *, rootless: bool) -> tuple[str, ...] | None:
    """See `Machine.cgroups`. Of a hybrid machine's two versions the first has the controllers."""
    first = tuple(sorted(c for t in trees if t.version == 1 for c in t.controllers if "=" not in c))
    if first:
        return None if rootless else first
    return () if trees else None
