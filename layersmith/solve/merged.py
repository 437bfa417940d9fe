"""SOLVE: the files of a stack of layers as a directory to read. In: stacks. Out: paths, valid until the build ends.

Mounts are made in the process's private mount namespace, so they vanish with it.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from layersmith.layer.unpack import each_once, hides_all_below, unpack
from layersmith.linux.overlay import Overlay, overlay
from layersmith.linux.userns import Isolation
from layersmith.oci.digest import ChainID
from layersmith.progress import Progress
from layersmith.solve.results import StackedLayer
from layersmith.store import Store


class Merged:
    """Makes lowerdirs and read-only views of stacks, each once."""

    def __init__(self, store: Store, directory: Path, isolation: Isolation, progress: Progress) -> None:
        self.store = store
        self.progress = progress
        self.userxattr = isolation.userxattr
        self.images = isolation.mounts_images
        self.xattr_namespace = isolation.xattr_namespace
        self._directory = directory
        self._lock = threading.Lock()
        self._mounts = ExitStack()
        self._mounted: dict[ChainID, Path] = {}
        self._unpacked: dict[StackedLayer, tuple[Path, bool]] = {}
        """The directories of layers that were asked for before, and whether they hide all below."""

    def __enter__(self) -> Merged:
        self._directory.mkdir(parents=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._mounts.close()

    def lowerdirs(self, stack: tuple[StackedLayer, ...]) -> tuple[Path, ...]:
        """The directories of ``stack``, topmost first, as `layer.unpack.lowerdirs` has them; unpacks what has none yet."""
        paths: list[Path] = []
        for position, stacked in enumerate(stack):
            own = stacked.upper.use() if stacked.upper else None
            if own is not None:
                paths.append(own)
                continue
            known = self._unpacked.get(stacked)
            if known is None:
                known = self._unpacked[stacked] = self._unpack(stack[: position + 1])
            path, hides_below = known
            if hides_below:
                paths.clear()
            paths.append(path)
        return each_once(paths)

    def _unpack(self, stack: tuple[StackedLayer, ...]) -> tuple[Path, bool]:
        """The directory of the topmost layer, and whether it hides all others."""
        *below, layer = (stacked.layer() for stacked in stack)
        path = unpack(
            self.store,
            layer,
            below,
            xattr_namespace=self.xattr_namespace,
            images=self.images,
            progress=self.progress,
        )
        return path, hides_all_below(self.store, layer)

    def view(self, stack: tuple[StackedLayer, ...], chain: ChainID) -> Path:
        """A directory that shows the files of ``stack``, read-only."""
        with self._lock:
            known = self._mounted.get(chain)
            if known is None:
                known = self._directory / chain.rpartition(":")[2][:16]
                known.mkdir()
                layers = Overlay(tuple(str(p) for p in self.lowerdirs(stack)), userxattr=self.userxattr)
                self._mounts.enter_context(overlay(layers, str(known)))
                self._mounted[chain] = known
            return known
