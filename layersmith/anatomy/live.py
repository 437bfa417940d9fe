"""An image's layers as a live overlay, with the four directories that overlayfs is made of. In: an `Image`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from layersmith.dataclass import dataclass
from layersmith.image import Image
from layersmith.layer.unpack import lowerdirs, prepare_upper
from layersmith.layer.view import View
from layersmith.linux.overlay import Overlay, overlay
from layersmith.linux.userns import Isolation
from layersmith.store import Store


@dataclass(frozen=True, slots=True)
class Mounted:
    """A mounted overlay. ``directory`` holds ``lower`` (links to ``lowers``, topmost first), the rest beside it."""

    directory: Path
    lowers: tuple[Path, ...]
    upper: Path
    work: Path
    merged: Path
    options: str

    def environment(self) -> dict[str, str]:
        """What a shell should know: LOWER as in the mount option, topmost first."""
        return {
            "LOWER": ":".join(map(str, self.lowers)),
            "UPPER": str(self.upper),
            "WORK": str(self.work),
            "MERGED": str(self.merged),
        }


@contextmanager
def mounted(store: Store, image: Image, isolation: Isolation) -> Iterator[Mounted]:
    """``image``'s layers under a fresh upper directory, mounted for as long as the block runs.

    Only after `userns.enter`, which gave ``isolation``: nobody outside sees the mount. What was written goes with
    the block; the lower directories are the store's own snapshots, and stay.

    Raises SandboxError, and what `lowerdirs` raises.
    """
    lowers = lowerdirs(
        store,
        image.layers,
        xattr_namespace=isolation.xattr_namespace,
        ignore_chown_errors=isolation.single_id,
    )
    directory = store.temporary("mount")
    names = [directory / name for name in ("upper", "work", "merged", "lower")]
    for path in names:
        path.mkdir(mode=0o755)
    upper, work, merged, lower = names
    for number, snapshot in enumerate(lowers, 1):
        (lower / str(number)).symlink_to(snapshot)
    with View(store, image.layers) as view:
        root = view.lookup(b"")
    if root is not None and not isolation.single_id:
        prepare_upper(upper, root)
    layers = Overlay(
        tuple(map(str, lowers)), str(upper), str(work), userxattr=isolation.userxattr, volatile=False
    )
    options = ",".join(
        (
            f"lowerdir={':'.join(map(str, lowers))}",
            f"upperdir={upper}",
            f"workdir={work}",
            *(key if value is None else f"{key}={value}" for key, value in layers.options()),
        )
    )
    with overlay(layers, str(merged)):
        yield Mounted(directory, lowers, upper, work, merged, options)
