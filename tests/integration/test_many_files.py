"""Layers of so many files that root gets them as one image: everything works on them as on a directory."""

from __future__ import annotations

import os
from pathlib import Path

from program import Layersmith

from layersmith.linux import erofs

COUNT = 1500


def test_a_layer_of_many_files(layersmith: Layersmith, base: str, context: Path) -> None:
    """Built upon, copied from, changed, run and checked; deleted files are whiteouts, and no mount is left."""
    (context / "many").mkdir()
    for number in range(COUNT):
        (context / "many" / f"file-{number}").write_text(f"{number}\n")
    (context / "Buildfile").write_text(
        "FROM base AS data\nCOPY many /many\n"
        "RUN cat /many/file-7 >> /many/file-8 && rm /many/file-9 && mv /many/file-10 /moved\n"
        "FROM base\nCOPY --from=data /many/file-8 /many/file-1499 /\nCOPY --from=data /many /all\nRUN cat /file-8\n"
    )
    layersmith("build", "-t", "data", "--target", "data", context)
    layersmith("build", "-t", "last", context)
    images = list((layersmith.root / "snapshots").glob("*.erofs"))
    assert not images or (os.geteuid() == 0 and erofs.known_to_kernel())
    assert layersmith(
        "run", "--rm", "last", "cat", "/file-8", "/file-1499", "/all/file-8"
    ).stdout.split() == [
        *("8", "7"),
        "1499",
        *("8", "7"),
    ]
    assert layersmith("run", "--rm", "data", "cat", "/moved", "/many/file-11").stdout == "10\n11\n"
    layersmith("run", "--rm", "data", "cat", "/many/file-9", status=1)
    assert "many/.wh.file-9" in layersmith("diff", "--raw", "data").stdout
    layersmith("fsck")
    assert str(layersmith.root) not in Path("/proc/self/mounts").read_text()
