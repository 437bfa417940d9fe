"""`Cache`: which layer a step made. In: a cache key. Out: the `Record` of the step that had that key.

A record also keeps what went into its key, so that ``explain`` can say what made a step run again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from layersmith.dataclass import dataclass, field, replace
from layersmith.oci.descriptor import Descriptor, Layer
from layersmith.oci.digest import DiffID
from layersmith.oci.document import canonical
from layersmith.store.database import Database

if TYPE_CHECKING:
    from layersmith.store.blobs import Blobs

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
    """The cache records of a store, and those that a cache source lent it for as long as it is open.

    ``used`` are the records that were given out or put since it was opened: what a build exports.
    """

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._database = database
        self._blobs = blobs
        self._lent: dict[str, Record] = {}
        self._lent_steps: dict[str, Record] = {}
        self.used: dict[str, Record] = {}

    def get(self, key: str) -> Record | None:
        """The record of ``key``, if its layer's blob can still be had; else None, and the record is dropped."""
        record = self._own(key) or self._lent.get(key)
        if record is not None:
            self.used[key] = record
        return record

    def _own(self, key: str) -> Record | None:
        rows = self._database.execute(f"SELECT {_COLUMNS}, used FROM cache WHERE key = ?", (key,))
        if not rows:
            return None
        record = _record(rows[0])
        if record.layer is not None and not self._blobs.has(record.layer.descriptor.digest):
            self.delete(key)
            return None
        if time.time() - rows[0][6] > TOUCH_SECONDS:
            self._database.defer(_TOUCH, time.time(), key)
        return record

    def lend(self, records: Iterable[Record]) -> None:
        """Know ``records``, whose layers may be `Blobs.elsewhere`, until the store is closed or `settle` keeps them."""
        for record in records:
            self._lent.setdefault(record.key, record)
            self._lent_steps.setdefault(record.step, record)

    def withdraw(self, digests: Collection[str] | None = None) -> None:
        """Forget what was lent, or of that the records whose layers' blobs are ``digests``."""
        for key, record in tuple(self._lent.items()):
            if digests is None or (record.layer is not None and record.layer.descriptor.digest in digests):
                del self._lent[key]
                self.used.pop(key, None)
        self._lent_steps = {record.step: record for record in self._lent.values()}

    def settle(self) -> None:
        """Keep those lent records that were used and whose layer has come into the store."""
        for key, record in tuple(self.used.items()):
            if key in self._lent and (
                record.layer is None or self._blobs.has(record.layer.descriptor.digest)
            ):
                del self._lent[key]
                self.put(key, record)

    def put(self, key: str, record: Record) -> None:
        """Record that ``key`` gives ``record``. The layer's blob must be in the store already, unless it was lent."""
        now = time.time()
        record = self.used[key] = replace(record, key=key, created=record.created or now)
        if record.layer is not None and not self._blobs.has(record.layer.descriptor.digest):
            self._lent[key] = record
            return
        layer = record.layer
        self._database.execute(
            f"INSERT OR REPLACE INTO cache({_COLUMNS}, used) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                key,
                record.step,
                None if layer is None else layer.diff_id,
                None if layer is None else canonical(layer.descriptor.to_json()).decode(),
                canonical(dict(record.inputs)).decode(),
                record.created,
                now,
            ),
        )

    def delete(self, key: str) -> None:
        """Forget a record, if there is one."""
        self._database.execute("DELETE FROM cache WHERE key = ?", (key,))

    def nearest(self, step: str) -> Record | None:
        """The latest record of the step called ``step``, whatever its key: what ``explain`` compares with."""
        found = self.latest(step, 1)
        return found[0] if found else self._lent_steps.get(step)

    def latest(self, step: str, most: int) -> tuple[Record, ...]:
        """The store's own records of the step called ``step``, at most so many, the latest first."""
        rows = self._database.execute(
            f"SELECT {_COLUMNS} FROM cache WHERE step = ? ORDER BY created DESC LIMIT ?", (step, most)
        )
        return tuple(map(_record, rows))

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
