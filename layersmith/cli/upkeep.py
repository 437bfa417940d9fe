"""The store kept within the limit that the configuration sets. In: a store, after a build. Out: less of it.

    gc:
      keep: 20GB        # or 10%, of the file system that the store is on

What goes is what `prune --keep-storage` takes: never what a name, a container or a running build needs.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layersmith.progress import Progress
    from layersmith.store import Store

SECONDS = 600
"""How often it is looked: adding up all files of a store takes a while."""
_STAMP = "gc-policy.lock"


def keep_within_limits(store: Store, progress: Progress, environ: Mapping[str, str] = os.environ) -> None:
    """Prune if the configuration says so and it was not looked lately. A failure is a warning: the build is done."""
    stamp = store.root / "locks" / _STAMP
    try:
        if abs(time.time() - stamp.stat().st_mtime) < SECONDS:
            return
    except FileNotFoundError:
        pass
    from layersmith.errors import LayersmithError
    from layersmith.progress import Notice

    try:
        limit = limit_of(store, environ)
        if limit is None or store.readonly:
            return
        stamp.touch()
        from layersmith.containers.container import Containers
        from layersmith.store.gc import prunable, prune

        if prunable(store) > limit:
            report = prune(store, keep_storage=limit, keep=Containers(store.root).images())
            progress.emit(Notice("info", f"gc: freed {report.freed} bytes to keep within {limit}"))
    except (LayersmithError, OSError) as error:
        progress.emit(Notice("warning", f"gc: {error}"))


def limit_of(store: Store, environ: Mapping[str, str]) -> int | None:
    """The bytes that the configuration lets the store keep, None if it says nothing. Raises UsageError."""
    from layersmith.transport.config_files import config_files, mapping

    limit = None
    for path, top in config_files(environ):
        gc = mapping(top.get("gc"), path, "gc")
        if not gc:
            continue
        from layersmith.cli.housekeeping import byte_count
        from layersmith.errors import UsageError

        if set(gc) != {"keep"}:
            raise UsageError(f"{path}: gc has one key, keep", hint="write gc: {keep: 20GB}, or 10%")
        text = str(gc["keep"])
        percent = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", text)
        if percent:
            disk = os.statvfs(store.root)
            limit = int(disk.f_blocks * disk.f_frsize * float(percent[1]) / 100)
        else:
            limit = byte_count(text)
    return limit
