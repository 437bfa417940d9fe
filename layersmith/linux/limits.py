"""What a container may use, as a value. In: numbers, as docker's flags have them. Out: what to write into which file of a
control group, for either version; `cgroups` does it. See the kernel's admin-guide/cgroup-v1 and cgroup-v2.
"""

from __future__ import annotations

from layersmith.dataclass import dataclass
from layersmith.errors import UsageError

PERIOD = 100_000
"""Microseconds over which the share of CPU time is counted; the kernel's default."""

Setting = tuple[str, str, str]
"""(controller, file, value)"""


@dataclass(frozen=True, slots=True)
class Limits:
    """``memory`` and ``memory_swap`` (memory and swap together, as docker has it; -1 is no limit) in bytes, ``cpus`` in
    processors, or ``cpu_quota`` of every ``cpu_period`` in microseconds, ``cpu_shares`` relative to 1024, ``cpuset`` and
    ``cpuset_mems`` as in ``0-2,5``, ``pids`` a number of tasks. 0 or empty is no limit."""

    memory: int = 0
    memory_swap: int = 0
    cpus: float = 0.0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_shares: int = 0
    cpuset: str = ""
    cpuset_mems: str = ""
    pids: int = 0

    def settings(self, version: int) -> tuple[Setting, ...]:
        """In the order in which they have to be written. Raises UsageError."""
        found = [*self._memory(version), *self._cpu(version)]
        if self.cpuset:
            found.append(("cpuset", "cpuset.cpus", self.cpuset))
        if self.cpuset_mems:
            found.append(("cpuset", "cpuset.mems", self.cpuset_mems))
        if self.pids:
            found.append(("pids", "pids.max", str(self.pids)))
        return tuple(found)

    def _memory(self, version: int) -> list[Setting]:
        if self.memory_swap and not self.memory:
            raise UsageError("--memory-swap needs --memory")
        if 0 < self.memory_swap < self.memory:
            raise UsageError(
                "--memory-swap is less than --memory",
                hint="it counts memory and swap together; -1 is no limit",
            )
        if not self.memory:
            return []
        total = self.memory_swap or 2 * self.memory  # docker's default: as much swap as memory
        if version == 2:
            swap = "max" if total < 0 else str(total - self.memory)
            return [("memory", "memory.max", str(self.memory)), ("memory", "memory.swap.max", swap)]
        return [
            ("memory", "memory.limit_in_bytes", str(self.memory)),
            ("memory", "memory.memsw.limit_in_bytes", str(total)),
        ]

    def _cpu(self, version: int) -> list[Setting]:
        if self.cpus and (self.cpu_quota or self.cpu_period):
            raise UsageError(
                "--cpus says the same as --cpu-quota and --cpu-period", hint="give one or the other"
            )
        found = []
        if self.cpu_shares and version == 2:
            # As runc converts 2…262144 to the 1…10000 of version 2.
            shares = min(max(self.cpu_shares, 2), 262_144)
            found.append(("cpu", "cpu.weight", str(1 + (shares - 2) * 9999 // 262_142)))
        elif self.cpu_shares:
            found.append(("cpu", "cpu.shares", str(self.cpu_shares)))
        period = self.cpu_period or PERIOD
        quota = self.cpu_quota or round(self.cpus * period)
        if version == 2 and (quota or self.cpu_period):
            found.append(("cpu", "cpu.max", f"{quota or 'max'} {period}"))
        elif quota or self.cpu_period:
            found.append(("cpu", "cpu.cfs_period_us", str(period)))
            found.append(("cpu", "cpu.cfs_quota_us", str(quota or -1)))
        return found


NO_LIMITS = Limits()
