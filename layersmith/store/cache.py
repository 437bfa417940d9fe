"""`Cache`: which layer a step made. In: a cache key. Out: the `Record` of the step that had that key.

A record also keeps what went into its key, so that ``explain`` can say what made a step run again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from layersmith.oci.descriptor import Descriptor, Layer
from layersmith.oci.digest import DiffID
from layersmith.oci.document import canonical
from layersmith.store.database import Database

_COLUMNS = "key, step, diff_id, descriptor, inputs, created"
TOUCH_SECONDS = 3600
"""How exact a time of last use is: enough to choose what to prune, and a cached build then writes nothing."""
_TOUCH = "UPDATE cache SET used = ? WHERE key = ?"


@dataclass(frozen=True, slots=True)
class Record:
    """What a step with some key gave: ``layer`` (None if it changed no file).

    ``inputs`` is what went into the key (JSON values); ``step`` names the step across edits of its inputs, for
    `Cache.nearest`; ``created`` is in seconds since the epoch; 0 becomes the time at which it is put.
    """

    layer: Layer | None
    inputs: Mapping[str, Any] = field(default_factory=dict, compare=False)
    step: str = ""
    created: float = 0.0
    key: str = field(default="", compare=False)


class Cache:
    """The cache records of a store."""

    def __init__(self, database: Database, has_blob: Callable[[str], bool]) -> None:
        self._database = database
        self._has_blob = has_blob

    def get(self, key: str) -> Record | None:
        """The record of ``key``, if its layer's blob is still there; else None, and the record is dropped."""
        rows = self._database.execute(f"SELECT {_COLUMNS}, used FROM cache WHERE key = ?", (key,))
        if not rows:
            return None
        record = _record(rows[0])
        if record.layer is not None and not self._has_blob(record.layer.descriptor.digest):
            self.delete(key)
            return None
        if time.time() - rows[0][6] > TOUCH_SECONDS:
            self._database.defer(_TOUCH, time.time(), key)
        return record

    def put(self, key: str, record: Record) -> None:
        """Record that ``key`` gives ``record``. The layer's blob must be in the store already."""
        now = time.time()
        layer = record.layer
        self._database.execute(
            f"INSERT OR REPLACE INTO cache({_COLUMNS}, used) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                key,
                record.step,
                None if layer is None else layer.diff_id,
                None if layer is None else canonical(layer.descriptor.to_json()).decode(),
                canonical(dict(record.inputs)).decode(),
                record.created or now,
                now,
            ),
        )

    def delete(self, key: str) -> None:
        """Forget a record, if there is one."""
        self._database.execute("DELETE FROM cache WHERE key = ?", (key,))

    def nearest(self, step: str) -> Record | None:
        """The latest record of the step called ``step``, whatever its key: what ``explain`` compares with."""
        rows = self._database.execute(
            f"SELECT {_COLUMNS} FROM cache WHERE step = ? ORDER BY created DESC LIMIT 1", (step,)
        )
        return _record(rows[0]) if rows else None

    def list(self) -> tuple[tuple[Record, float], ...]:
        """All records with the time of their last use, the longest unused first."""
        rows = self._database.execute(f"SELECT {_COLUMNS}, used FROM cache ORDER BY used, key")
        return tuple((_record(row), row[6]) for row in rows)


def _record(row: tuple[Any, ...]) -> Record:
    key, step, diff_id, descriptor, inputs, created = row[:6]
    layer = None
    if diff_id is not None:
        layer = Layer(Descriptor.from_json(json.loads(descriptor)), DiffID(diff_id))
    return Record(layer, json.loads(inputs), step, created, key)
