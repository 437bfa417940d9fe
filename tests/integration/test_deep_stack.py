"""Images of hundreds of layers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from program import Layersmith

LAYERS = 300


@pytest.mark.slow
def test_three_hundred_layers_build_and_run(layersmith: Layersmith, base: str, context: Path) -> None:
    """Every step sees the files of all before it, and so does a container; a file changed in each is the last one's."""
    steps = [f"RUN echo {n} > /seen/{n} && echo {n} > /latest" for n in range(2, LAYERS - 1)]
    last = f"RUN test $(ls /seen | wc -l) = {LAYERS - 2} && cp /seen/1 /first && rm /seen/1"
    (context / "Buildfile").write_text(
        "\n".join(["FROM base", "RUN mkdir /seen && echo 1 > /seen/1", *steps, last])
    )
    layersmith("build", "-t", "deep", context, timeout=300)

    image = json.loads(layersmith("inspect", "deep").stdout)[0]
    assert len(image["RootFS"]["Layers"]) == LAYERS
    script = "cat /first /latest /seen/2; ls /seen | wc -l"
    assert layersmith("run", "--rm", "deep", "sh", "-c", script).stdout.split() == [
        *("1", str(LAYERS - 2), "2"),
        str(LAYERS - 3),
    ]


@pytest.mark.root
def test_a_layer_that_is_there_twice(layersmith: Layersmith, base: str, context: Path) -> None:
    """Steps that change nothing make the same layer; overlayfs would refuse the same directory twice."""
    (context / "Buildfile").write_text("FROM base\nRUN true\nRUN true\nRUN echo x > /x\nRUN true\n")
    layersmith("build", "-t", "twice", context)
    assert layersmith("run", "--rm", "twice", "cat", "/x").stdout == "x\n"
    (context / "Buildfile").write_text("FROM twice\nRUN rm /x\nRUN true\nRUN test ! -e /x\n")
    layersmith("build", context)


def test_a_layer_beyond_the_limit(layersmith: Layersmith, base: str, context: Path) -> None:
    """--max-layer-size holds for what a step or a container has to unpack; the message says how to raise it."""
    (context / "Buildfile").write_text("FROM base\nRUN true\n")
    done = layersmith("build", "--max-layer-size", "10k", context, status=6)
    assert "larger than 10240 bytes" in done.stderr
    assert "--max-layer-size" in done.stderr
    layersmith("run", "--rm", "--max-layer-size=10k", base, "true", status=125)
    layersmith("build", "--max-layer-size", "lots", context, status=2)
    layersmith("build", "--max-layer-size", "1g", context)
