"""A layer as one read-only EROFS image, mounted from its file, against a directory of files.

    python tests/benchmarks/bench_erofs.py DIRECTORY [--rounds 5]

As root, on Linux 6.12 or newer. Uses the trees of bench_layer.py below DIRECTORY. Prints seconds, medians: to make
each form from the blob (and to mount an image), to mount an overlay on it, to list all of it and to read all of it
with a cold dentry cache, and to delete it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bench_layer import generate

from layersmith.layer.pack import pack
from layersmith.layer.scan import scan
from layersmith.layer.unpack import unpack
from layersmith.linux import libc
from layersmith.linux.overlay import Overlay, open_overlay
from layersmith.store import Store


def drop_caches() -> None:
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("2")


def listed(top: Path) -> int:
    return sum(len(files) + len(directories) for _, directories, files in os.walk(top))


def read(top: Path) -> str:
    """A digest of all names and contents, in the order of the names."""
    digest = hashlib.sha256()
    for directory, directories, files in os.walk(top):
        directories.sort()
        for name in sorted(files):
            digest.update(name.encode())
            with open(os.path.join(directory, name), "rb", buffering=0) as file:
                digest.update(file.read())
    return digest.hexdigest()


def timed(what: Callable[[], Any], times: list[float]) -> Any:
    started = time.perf_counter()
    result = what()
    times.append(time.perf_counter() - started)
    return result


STEPS = ("make", "mount", "list", "read", "delete")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    libc.unshare(libc.CLONE_NEWNS)
    libc.mount(None, "/", None, libc.MS_REC | libc.MS_PRIVATE)
    top: Path = args.directory
    top.mkdir(exist_ok=True)
    for name, files, mean, most in (("small", 40_000, 8.7, 2_000_000), ("large", 28, 0.0, 40_000_000)):
        if not (top / name).exists():
            generate(top / name, files=files, mean=mean, most=most)
        times = {form: {step: [] for step in STEPS} for form in ("directory", "erofs")}
        for number in range(args.rounds):
            compare(top, name, number, times)
        for form, found in times.items():
            print(f"{name:6} {form:10}", *(f"{s} {statistics.median(t):6.3f}" for s, t in found.items()))


def compare(top: Path, name: str, number: int, times: dict[str, dict[str, list[float]]]) -> None:
    root = top / f"erofs-{name}-{number}"
    with Store.open(root) as store:
        layer = pack(store, scan(top / name)).layer
    os.sync()
    digests = set()
    empty = top / "empty"  # overlayfs takes no single lower directory
    empty.mkdir(exist_ok=True)
    for form, found in times.items():
        with Store.open(root) as store:
            lower = timed(partial(unpack, store, layer, images=form == "erofs"), found["make"])
            drop_caches()
            merged = timed(
                partial(open_overlay, Overlay((os.fspath(lower), os.fspath(empty)))), found["mount"]
            )
            view = Path(f"/proc/self/fd/{merged}")
            count = timed(partial(listed, view), found["list"])
            digests.add((count, timed(partial(read, view), found["read"])))
            os.close(merged)
            store.closing.close()
            store.snapshots.remove(layer.diff_id)
            timed(store.tidy, found["delete"])
    assert len(digests) == 1, digests
    shutil.rmtree(root)


if __name__ == "__main__":
    main()
