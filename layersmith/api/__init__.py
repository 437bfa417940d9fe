"""What ``import layersmith`` offers. In: Python values. Out: images, as values that say where they are.

Everything that isolates, mounts or writes runs in a process of its own (`worker`), so this may be used from any thread of
any program; what only reads, reads here.
"""

from __future__ import annotations

from layersmith.api.buildfile import Buildfile
from layersmith.api.image import Image
from layersmith.api.store import Build, Store, build, load, run, start_build

__all__ = ["Build", "Buildfile", "Image", "Store", "build", "load", "run", "start_build"]
