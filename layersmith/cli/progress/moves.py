"""What a build pulled, unpacked and pushed, and when, for its record. In: events, passed on. Out: `Moved` values."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from layersmith.dataclass import replace
from layersmith.progress import Event, LayerUnpacked, Progress, Transfer
from layersmith.store.build_record import Moved

if TYPE_CHECKING:
    from layersmith.store import Store
    from layersmith.store.build_record import Build


class Moves:
    """A Progress that remembers transfers."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lock = threading.Lock()
        self._moved: dict[tuple[str, str], Moved] = {}

    def emit(self, event: Event) -> None:
        if isinstance(event, LayerUnpacked):
            now, what = time.time(), event.digest[7:19]
            with self._lock:
                self._moved["unpack", what] = Moved("unpack", what, event.size, now - event.seconds, now)
        elif isinstance(event, Transfer):
            now = time.time()
            with self._lock:
                first = self._moved.get((event.direction, event.what))
                began = now if first is None else first.started
                moved = Moved(event.direction, event.what, event.done, began, now)
                self._moved[event.direction, event.what] = moved
        self._progress.emit(event)

    def note(self, store: Store, build: Build | None) -> None:
        """Add them to the record of the build, if it has one."""
        if build is None or not build.id or not self._moved:
            return
        moved = tuple(sorted(self._moved.values(), key=lambda move: move.started))
        store.builds.write(replace(build, moved=(*build.moved, *moved)))
