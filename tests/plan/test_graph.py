"""The graph of a plan: complete, escaped, and drawn without a box on another."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layersmith.plan.draw import to_svg
from layersmith.plan.graph import Edge, Graph, Node, to_dot, to_json, to_mermaid

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '<script>alert("x")</script> ]]> "]; evil -> s0; \\" end\n`$HOME` 💥 \x01'


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Any graph whose edges point forward, with any text."""
    count = draw(st.integers(1, 12))
    nodes = tuple(
        Node(n, draw(st.text(max_size=60)), draw(st.sampled_from(["", "a", HOSTILE])), "exec", "runs")
        for n in range(count)
    )
    edges = tuple(
        Edge(source, target, draw(st.sampled_from(["parent", "from"])))
        for target in range(count)
        for source in range(target)
        if draw(st.booleans())
    )
    return Graph(nodes, edges, (count - 1,))


@given(graphs())
@settings(max_examples=100, deadline=None)
def test_the_svg_is_well_formed_and_no_boxes_overlap(drawn: Graph) -> None:
    """Whatever the steps are called; every step once, every edge once, each box inside the picture."""
    root = ET.fromstring(to_svg(drawn))
    groups = list(root.iter(f"{SVG}g"))
    assert [group.get("id") for group in groups] == [f"step-{node.step}" for node in drawn.nodes]
    assert len([path for path in root.iter(f"{SVG}path") if path.get("marker-end")]) == len(drawn.edges)
    boxes = []
    for group in groups:
        (box,) = group.iter(f"{SVG}rect")
        x, y, width, height = (float(box.get(name) or "") for name in ("x", "y", "width", "height"))
        assert x >= 0
        assert x + width <= float(root.get("width") or "") + 0.1
        assert y + height <= float(root.get("height") or "")
        boxes.append((x, y, x + width, y + height))
    for number, one in enumerate(boxes):
        for other in boxes[number + 1 :]:
            assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


@given(graphs())
@settings(max_examples=50, deadline=None)
def test_mermaid_takes_nothing_for_its_own(drawn: Graph) -> None:
    """Every line is one that we wrote: text from a Buildfile can't end a label."""
    shapes = (
        r'subgraph stage\d+\["[^"\[\]<>`\n]*"\]|end|s\d+\["[^"\[\]<>`\n]*"\]|s\d+ (-->|-\.->) s\d+'
        r"|classDef \w+ \S+|class [s\d,]+ \w+"
    )
    first, *lines = to_mermaid(drawn).split("\n")
    assert first == "flowchart TD"
    assert [line for line in lines if line.strip() and not re.fullmatch(shapes, line.strip())] == []


def test_json_is_the_graph() -> None:
    """Names unabridged."""
    drawn = Graph((Node(0, HOSTILE, "s", "exec"), Node(1, "b", "", "copy")), (Edge(0, 1, "parent"),), (1,))
    found = json.loads(to_json(drawn))
    assert found["steps"][0]["name"] == HOSTILE
    assert found["steps"][1]["needs"] == [0]


@pytest.mark.interop
@pytest.mark.skipif(shutil.which("dot") is None, reason="needs Graphviz's dot")
def test_graphviz_reads_our_dot() -> None:
    """It finds the very nodes and edges, whatever the steps are called."""
    nodes = (
        Node(0, HOSTILE, HOSTILE, "exec", "runs"),
        Node(1, "plain", "", "copy"),
        Node(2, HOSTILE, "b", "exec"),
    )
    edges = (Edge(0, 1, "parent"), Edge(0, 2, "from"))
    done = subprocess.run(
        ["dot", "-Tplain"],
        input=to_dot(Graph(nodes, edges, (2,))),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    words = [line.split() for line in done.stdout.splitlines()]
    assert sorted(word[1] for word in words if word[0] == "node") == ["s0", "s1", "s2"]
    assert sorted((word[1], word[2]) for word in words if word[0] == "edge") == [("s0", "s1"), ("s0", "s2")]
