"""EXECUTE: what the command line gives to every RUN. In: nothing. Out: `RunSettings`, apart so that it loads quickly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What the build's command line gives to every RUN; none of it enters a cache key.

    ``secrets`` maps an id to a function that reads it (bytes); ``ssh`` an id to an agent's socket on the host;
    ``hosts`` are (name, address); ``network`` is what ``default`` means here: ``host``, ``none`` or a namespace's
    path; ``cgroups`` are directories of control groups to run in.
    """

    secrets: Mapping[str, Callable[[], bytes]] = field(default_factory=dict)
    ssh: Mapping[str, Path] = field(default_factory=dict)
    hosts: tuple[tuple[str, str], ...] = ()
    dns: tuple[str, ...] = ()
    network: str = "host"
    cgroups: tuple[str, ...] = ()
