"""A build and an image as values, with names that want to be code."""

from __future__ import annotations

from typing import Any

from layersmith.anatomy.space import LayerFile, LayerSpace, Space
from layersmith.layer.entry import DIR, REG
from layersmith.oci.config import History
from layersmith.oci.descriptor import Descriptor, Layer
from layersmith.oci.digest import DiffID, Digest
from layersmith.store.build_record import Build, BuildStep, Cause, Moved

HOSTILE = "</script><img src=x onerror=document.title='owned'>\"'&\u202e\x1b[31m"


def made_layer(number: int, size: int) -> Layer:
    digest = f"sha256:{number:064x}"
    kind = "application/vnd.oci.image.layer.v1.tar+zstd"
    return Layer(Descriptor(kind, Digest(digest), size), DiffID(digest))


def made_build() -> Build:
    """Ten seconds: a hit, two steps side by side, one after them, and one that failed."""
    start = 1_700_000_000.0

    def step(number: int, outcome: str, began: float, ended: float, **more: Any) -> BuildStep:
        return BuildStep(
            number,
            more.pop("name", f"[build {number}/5] RUN step {number}"),
            more.pop("instruction", f"RUN step {number}"),
            outcome=outcome,
            started=start + began,
            finished=start + ended,
            line=number + 1,
            source=f"Buildfile:{number + 1}",
            **more,
        )

    packed = {"pack_started": start + 4.0, "pack_finished": start + 5.5}
    return Build(
        "kkkkkkkkkkkk",
        start,
        names=("web:1",),
        buildfile="Buildfile",
        finished=start + 10,
        result="failed",
        error=HOSTILE,
        moved=(
            Moved("push", "sha256:1", 100, start + 8.0, start + 9.5),
            Moved("push", HOSTILE, 100, start + 9.0, start + 10.0),
        ),
        steps=(
            BuildStep(0, "FROM base", "FROM base", outcome="base", line=1),
            step(1, "hit", 0.1, 0.1, needs=(0,), layer=made_layer(1, 100)),
            step(2, "ran", 0.5, 4.0, needs=(1,), worker=0, layer=made_layer(2, 2000), **packed),
            step(
                3, "ran", 0.5, 2.5, needs=(1,), worker=1, layer=made_layer(3, 30), why=(Cause("file", "a.c"),)
            ),
            step(4, "ran", 4.0, 9.0, needs=(2, 3), worker=0, name=f"[x] RUN {HOSTILE}", instruction=HOSTILE),
            step(5, "failed", 9.0, 10.0, needs=(4,), worker=0, error=HOSTILE),
        ),
    )


def made_space() -> Space:
    files = (
        LayerFile(b"opt", DIR, 0, "A"),
        LayerFile(b"opt/big", REG, 5000, "A", gone=2),
        LayerFile(HOSTILE.replace("/", "").encode(), REG, 70, "A"),
        LayerFile(b"opt/\xff\xfe", REG, 7, "A"),
    )
    second = (LayerFile(b"opt/big", b"w", 0, "D"), LayerFile(b"opt/new", REG, 900, "A"))
    history = (History("2023-11-14T22:13:20Z", HOSTILE), History("2023-11-14T22:13:20Z", "RUN rm"))
    layers = [
        LayerSpace(number, made_layer(number, 1000 * number), line, inside)
        for number, (line, inside) in enumerate(zip(history, (files, second), strict=True), 1)
    ]
    return Space(tuple(layers), 0.5)
