"""SOLVE: the files of a stack of layers as a directory to read. In: stacks. Out: paths, valid until the build ends.

Mounts are made in the process's private mount namespace, so they vanish with it.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from layersmith.layer.unpack import unpack
from layersmith.linux.overlay import Overlay, mount_overlay, unmount
from layersmith.oci.digest import ChainID
from layersmith.solve.results import StackedLayer
from layersmith.store import Store


class Merged:
    """Makes lowerdirs and read-only views of stacks, each once."""

    def __init__(self, store: Store, directory: Path, *, xattr_namespace: str = "trusted") -> None:
        self.store = store
        self.xattr_namespace = xattr_namespace
        self._directory = directory
        self._lock = threading.Lock()
        self._mounted: dict[ChainID, Path] = {}

    def __enter__(self) -> Merged:
        self._directory.mkdir(parents=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for path in self._mounted.values():
            unmount(path)

    def lowerdirs(self, stack: tuple[StackedLayer, ...]) -> tuple[Path, ...]:
        """The directories of ``stack``, topmost first; unpacks what no directory holds yet."""
        paths: list[Path] = []
        for position, stacked in enumerate(stack):
            if stacked.directory is not None:
                paths.append(stacked.directory)
                continue
            layer = stacked.packed.result()
            below = [s.packed for s in stack[:position]]
            paths.append(
                self.store.snapshots.find(layer.diff_id)
                or unpack(
                    self.store,
                    layer,
                    [future.result() for future in below],
                    xattr_namespace=self.xattr_namespace,
                )
            )
        return tuple(reversed(paths))

    def view(self, stack: tuple[StackedLayer, ...], chain: ChainID) -> Path:
        """A directory that shows the files of ``stack``, read-only."""
        with self._lock:
            known = self._mounted.get(chain)
            if known is None:
                known = self._directory / chain.rpartition(":")[2][:16]
                known.mkdir()
                overlay = Overlay(tuple(str(p) for p in self.lowerdirs(stack)))
                mount_overlay(overlay, known)
                self._mounted[chain] = known
            return known
