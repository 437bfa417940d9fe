"""STORE: all disk. See `layersmith.store.store`."""

from layersmith.store.blobs import BlobReader, Blobs, BlobWriter
from layersmith.store.build_record import Build, BuildStep, Cause
from layersmith.store.builds import Builds
from layersmith.store.cache import Cache, Record
from layersmith.store.database import Database
from layersmith.store.refs import Refs
from layersmith.store.snapshots import Pending, Snapshot, Snapshots
from layersmith.store.statcache import Stat, StatCache
from layersmith.store.store import Store, default_root

__all__ = [
    "BlobReader",
    "BlobWriter",
    "Blobs",
    "Build",
    "BuildStep",
    "Builds",
    "Cache",
    "Cause",
    "Database",
    "Pending",
    "Record",
    "Refs",
    "Snapshot",
    "Snapshots",
    "Stat",
    "StatCache",
    "Store",
    "default_root",
]
