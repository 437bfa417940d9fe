"""SOLVE: the builds before this one, as `explain` asks for them. In: their records. Out: builds and steps, the newest first.

Records are read as they are and parsed when something in them is wanted: a build that was told not to use the cache
wants one of them, and to parse fifty takes as long as several small steps.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property

from layersmith.oci.document import canonical
from layersmith.store import Builds
from layersmith.store.build_record import Build, BuildStep

REMEMBERED = 50


class History:
    """The latest builds of a store, but for the one that is called ``but``."""

    def __init__(self, builds: Builds, but: str) -> None:
        self._records = [_Record(text) for name, text in builds.texts(REMEMBERED) if name != but]

    def steps_of(self, op: str) -> Iterator[tuple[Build, BuildStep]]:
        """The steps whose operation has the digest ``op``."""
        encoded = op.encode()
        for record in self._records:
            if encoded in record.text and record.build is not None:
                for step in record.by_op.get(op, ()):
                    yield record.build, step

    def nearest_first(self, build: Build) -> Iterator[Build]:
        """All builds, those of ``build``'s Buildfile and context before all others."""
        members = [_member("buildfile", build.buildfile), _member("context", build.context)]
        for wanted in (True, False):
            for record in self._records:
                if all(member in record.text for member in members) is wanted and record.build is not None:
                    yield record.build


class _Record:
    def __init__(self, text: bytes) -> None:
        self.text = text

    @cached_property
    def build(self) -> Build | None:
        """None where the record is damaged."""
        try:
            return Build.parse(self.text)
        except ValueError:
            return None

    @cached_property
    def by_op(self) -> dict[str, list[BuildStep]]:
        found: dict[str, list[BuildStep]] = defaultdict(list)
        for step in comparable(self.build) if self.build is not None else ():
            found[str((step.parts or {}).get("op"))].append(step)
        return found


def comparable(build: Build) -> Iterator[BuildStep]:
    """The steps that tell what an operation came to."""
    for step in build.steps:
        # Records of layersmith before 0.2 have the operation in words.
        if step.outcome in ("ran", "hit") and step.parts and isinstance(step.parts.get("identity"), dict):
            yield step


def _member(name: str, value: str) -> bytes:
    """As it stands in a record; one without a value stands in none, and is in any text."""
    return canonical({name: value})[1:-1] if value else b""
