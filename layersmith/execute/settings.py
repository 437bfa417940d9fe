"""EXECUTE: what the command line gives to every RUN. In: nothing. Out: `RunSettings`, apart so that it loads quickly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from layersmith.dataclass import dataclass, field
from layersmith.linux.limits import NO_LIMITS, Limits
from layersmith.linux.runtime import BUILTIN


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What the build's command line gives to every RUN; none of it enters a cache key.

    ``secrets`` maps an id to a function that reads it (bytes); ``ssh`` an id to an agent's socket on the host;
    ``hosts`` are (name, address); ``limits`` hold for each RUN by itself; ``isolation`` names what runs them, as in
    `linux.runtime.find`.
    """

    secrets: Mapping[str, Callable[[], bytes]] = field(default_factory=dict)
    ssh: Mapping[str, Path] = field(default_factory=dict)
    hosts: tuple[tuple[str, str], ...] = ()
    dns: tuple[str, ...] = ()
    limits: Limits = NO_LIMITS
    isolation: str = BUILTIN
