"""PLAN: the DAG as a value, and as text for other programs. In: a `Plan`. Out: a `Graph`; Graphviz's DOT, Mermaid, JSON.

`draw` makes an SVG of the same value. What a Buildfile says ends up in labels, so every writer escapes its text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from layersmith import ops
from layersmith.dataclass import dataclass
from layersmith.plan.model import Plan, Step

KINDS = {"SourceOp": "source", "ExecOp": "exec", "CopyOp": "copy", "MkdirOp": "mkdir"}
COLORS = {"cached": "#d5e8d4", "stored": "#e1e1e1", "pulled": "#dae8fc", "runs": "#ffe6cc", "open": "#fff2cc"}
"""Of nodes, by what becomes of the step (`solve.forecast`); anything else is white."""

_WIDTH = 48


@dataclass(frozen=True, slots=True)
class Node:
    """A step: its number in the plan, its name, its stage, its kind of op, and what becomes of it (may be empty)."""

    step: int
    name: str
    stage: str
    kind: str
    state: str = ""

    @property
    def label(self) -> str:
        """The name on one line, cut to what fits a box."""
        text = " ".join(self.name.split())
        return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"


@dataclass(frozen=True, slots=True)
class Edge:
    """``target`` needs ``source``: stands on its files (``parent``), or reads them (``from``: COPY --from, mounts)."""

    source: int
    target: int
    kind: str


@dataclass(frozen=True, slots=True)
class Graph:
    """The steps in the plan's order, in which every edge points forward. ``finals``: the steps that are the result."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    finals: tuple[int, ...]


def graph(plans: Sequence[Plan], states: Sequence[str] = ()) -> Graph:
    """The graph of the plans of one build, which share their steps; ``states`` says what becomes of each step."""
    steps = plans[0].steps
    states = states or [""] * len(steps)
    nodes = tuple(
        _node(number, step, state) for number, (step, state) in enumerate(zip(steps, states, strict=True))
    )
    edges = [
        Edge(need, number, "parent" if need == step.parent else "from")
        for number, step in enumerate(steps)
        for need in dict.fromkeys(step.needs)
    ]
    return Graph(nodes, tuple(edges), tuple(dict.fromkeys(plan.final for plan in plans)))


def _node(number: int, step: Step, state: str) -> Node:
    kind = KINDS.get(type(step.op).__name__, type(step.op).__name__.removesuffix("Op").lower())
    name = step.name if not isinstance(step.op, ops.SourceOp) else f"FROM {step.op.name}"
    return Node(number, name, step.stage, kind, state)


def to_json(drawn: Graph) -> str:
    """``{"steps": [{"step", "name", "stage", "kind", "state", "needs"}], "finals": [...]}``, indented."""
    needs: dict[int, list[int]] = {node.step: [] for node in drawn.nodes}
    for edge in drawn.edges:
        needs[edge.target].append(edge.source)
    steps = [
        {
            "step": node.step,
            "name": node.name,
            "stage": node.stage,
            "kind": node.kind,
            "state": node.state,
            "needs": needs[node.step],
        }
        for node in drawn.nodes
    ]
    return json.dumps({"steps": steps, "finals": list(drawn.finals)}, indent=2) + "\n"


def to_dot(drawn: Graph) -> str:
    """A digraph in Graphviz's language (graphviz.org/doc/info/lang.html), a cluster for each stage."""
    lines = [
        "digraph build {",
        "  rankdir=TB;",
        '  node [shape=box, style="rounded,filled", fillcolor=white, fontname="sans-serif", fontsize=11];',
    ]
    for number, stage in enumerate(dict.fromkeys(node.stage for node in drawn.nodes)):
        members = [node for node in drawn.nodes if node.stage == stage]
        indent = "    " if stage else "  "
        if stage:
            lines += [
                f"  subgraph cluster_{number} {{",
                f"    label={_dot(stage)}; style=rounded; color=gray;",
            ]
        for node in members:
            pen = ", penwidth=2" if node.step in drawn.finals else ""
            color = COLORS.get(node.state, "white")
            tooltip = f"{node.name}\n{node.state}".strip()
            lines.append(
                f'{indent}s{node.step} [label={_dot(node.label)}, fillcolor="{color}", tooltip={_dot(tooltip)}{pen}];'
            )
        if stage:
            lines.append("  }")
    for edge in drawn.edges:
        style = "" if edge.kind == "parent" else " [style=dashed]"
        lines.append(f"  s{edge.source} -> s{edge.target}{style};")
    return "\n".join([*lines, "}"]) + "\n"


def _dot(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def to_mermaid(drawn: Graph) -> str:
    """A flowchart in Mermaid's language (mermaid.js.org/syntax/flowchart.html), which GitHub and GitLab draw."""
    lines = ["flowchart TD"]
    for number, stage in enumerate(dict.fromkeys(node.stage for node in drawn.nodes)):
        members = [node for node in drawn.nodes if node.stage == stage]
        indent = "    " if stage else "  "
        if stage:
            lines.append(f'  subgraph stage{number}["{_mermaid(stage)}"]')
        lines += [f'{indent}s{node.step}["{_mermaid(node.label)}"]' for node in members]
        if stage:
            lines.append("  end")
    for edge in drawn.edges:
        lines.append(f"  s{edge.source} {'-->' if edge.kind == 'parent' else '-.->'} s{edge.target}")
    for state, color in COLORS.items():
        members = [node for node in drawn.nodes if node.state == state]
        if members:
            lines.append(f"  classDef {state}Step fill:{color},stroke:#555,color:#000")
            lines.append(f"  class {','.join(f's{node.step}' for node in members)} {state}Step")
    return "\n".join(lines) + "\n"


def _mermaid(text: str) -> str:
    """Entities for whatever Mermaid or the HTML that it makes would take for its own."""
    return "".join(c if c.isalnum() or c in " .,:=/_-…" else f"#{ord(c)};" for c in text)
