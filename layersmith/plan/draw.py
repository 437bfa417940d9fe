"""PLAN: the DAG as a picture. In: a `Graph`. Out: an SVG 1.1 document, the same bytes on every machine.

Drawn here rather than by Graphviz, so that it looks the same where there is none: a plan is a small layered graph, for
which the classic three steps do (Sugiyama, Tagawa, Toda 1981): each step one row below the lowest that it needs, long
edges passed through the rows between, and rows sorted by the mean place of their neighbours until crossings are few.
`--print-graph=dot` is for those who want Graphviz's.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from xml.sax.saxutils import escape, quoteattr

from layersmith.plan.graph import COLORS, Edge, Graph, Node

CHARACTER = 6.6
"""Width of a character at 11 px in a common sans-serif font, rather too wide than too narrow."""
HEIGHT, GAP_X, GAP_Y, MARGIN = 30.0, 26.0, 38.0, 20.0
SWEEPS = 12

Place = int | tuple[int, int, int]
"""A step, or the point at which edge (source, target) passes through a row."""

STYLE = """\
text { font: 11px system-ui, sans-serif; fill: #1a1a1a }
rect { stroke: #555; stroke-width: 1 }
rect.final { stroke-width: 2.5 }
path { fill: none; stroke: #555; stroke-width: 1.2 }
path.from { stroke-dasharray: 5 3 }
.background { fill: #fff; stroke: none }
"""


def to_svg(drawn: Graph) -> str:
    """The drawing: a box for each step, filled by its state, a title with its whole name; a legend below."""
    return _Drawing(drawn).svg()


class _Drawing:
    """``row`` and ``x`` say where a place is: its row, and its middle in that row."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.row = self._levels()
        self.nodes = {node.step: node for node in self.graph.nodes}
        self.paths = {edge: self._path(edge) for edge in self.graph.edges}
        self.rows: list[list[Place]] = [[] for _ in range(max(self.row.values(), default=-1) + 1)]
        for path in self.paths.values():
            for place in path[1:-1]:
                assert isinstance(place, tuple)
                self.rows[place[2]].append(place)
        for node in self.graph.nodes:
            self.rows[self.row[node.step]].append(node.step)
        self._untangle()
        self._place()

    def _levels(self) -> dict[int, int]:
        row: dict[int, int] = {}
        needs: dict[int, list[int]] = defaultdict(list)
        for edge in self.graph.edges:
            needs[edge.target].append(edge.source)
        for node in self.graph.nodes:
            row[node.step] = 1 + max((row[need] for need in needs[node.step]), default=-1)
        return row

    def _path(self, edge: Edge) -> list[Place]:
        between = range(self.row[edge.source] + 1, self.row[edge.target])
        return [edge.source, *((edge.source, edge.target, row) for row in between), edge.target]

    def _neighbours(self) -> tuple[dict[Place, list[Place]], dict[Place, list[Place]]]:
        above: dict[Place, list[Place]] = defaultdict(list)
        below: dict[Place, list[Place]] = defaultdict(list)
        for path in self.paths.values():
            for upper, lower in pairwise(path):
                above[lower].append(upper)
                below[upper].append(lower)
        return above, below

    def _untangle(self) -> None:
        above, below = self._neighbours()
        for sweep in range(SWEEPS):
            neighbours = below if sweep % 2 else above
            for row in reversed(self.rows) if sweep % 2 else self.rows:
                order = {place: n for line in self.rows for n, place in enumerate(line)}

                def mean(
                    place: Place, order: dict[Place, int] = order, near: dict[Place, list[Place]] = neighbours
                ) -> float:
                    found = near[place]
                    return sum(order[other] for other in found) / len(found) if found else order[place]

                row.sort(key=mean)

    def _width(self, place: Place) -> float:
        return 8.0 if isinstance(place, tuple) else 20 + CHARACTER * len(self.nodes[place].label)

    def _place(self) -> None:
        """Rows from left to right, each centred on the widest."""
        widths = [sum(map(self._width, row)) + GAP_X * (len(row) - 1) for row in self.rows]
        self.width = max([*widths, 260.0]) + 2 * MARGIN
        self.x: dict[Place, float] = {}
        for row, width in zip(self.rows, widths, strict=True):
            left = (self.width - width) / 2
            for place in row:
                self.x[place] = left + self._width(place) / 2
                left += self._width(place) + GAP_X

    def _y(self, place: Place) -> float:
        row = place[2] if isinstance(place, tuple) else self.row[place]
        return MARGIN + row * (HEIGHT + GAP_Y)

    def svg(self) -> str:
        states = [state for state in COLORS if any(node.state == state for node in self.graph.nodes)]
        bottom = MARGIN + len(self.rows) * (HEIGHT + GAP_Y)
        height = bottom + (24 if states else 0)
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {self.width:.0f} {height:.0f}" role="img" aria-label="Steps of the build">',
            f"<style>\n{STYLE}</style>",
            '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            'orient="auto"><path d="M0 0 8 4 0 8z" style="fill:#555;stroke:none"/></marker></defs>',
            '<rect class="background" width="100%" height="100%"/>',
            *(self._edge(edge, path) for edge, path in self.paths.items()),
            *(self._box(node) for node in self.graph.nodes),
        ]
        for number, state in enumerate(states):
            x = MARGIN + number * 80
            lines.append(
                f'<rect x="{x:.0f}" y="{bottom:.0f}" width="12" height="12" fill="{COLORS[state]}"/>'
            )
            lines.append(f'<text x="{x + 17:.0f}" y="{bottom + 10:.0f}">{state}</text>')
        return "\n".join([*lines, "</svg>"]) + "\n"

    def _edge(self, edge: Edge, path: list[Place]) -> str:
        x, y = self.x[path[0]], self._y(path[0]) + HEIGHT
        curve = [f"M{x:.1f} {y:.1f}"]
        for place in path[1:]:
            to_x, to_y = self.x[place], self._y(place)
            middle = (y + to_y) / 2
            curve.append(f"C{x:.1f} {middle:.1f} {to_x:.1f} {middle:.1f} {to_x:.1f} {to_y:.1f}")
            if isinstance(place, tuple):
                curve.append(f"V{to_y + HEIGHT:.1f}")
            x, y = to_x, to_y + HEIGHT
        return f'<path class="{edge.kind}" d="{" ".join(curve)}" marker-end="url(#arrow)"/>'

    def _box(self, node: Node) -> str:
        width, x, y = self._width(node.step), self.x[node.step], self._y(node.step)
        final = ' class="final"' if node.step in self.graph.finals else ""
        color = quoteattr(COLORS.get(node.state, "#fff"))
        title = _text(f"{node.name}\n{node.state}".strip())
        return (
            f'<g id="step-{node.step}"><title>{title}</title><rect{final} x="{x - width / 2:.1f}" y="{y:.1f}" '
            f'width="{width:.1f}" height="{HEIGHT:.0f}" rx="5" fill={color}/>'
            f'<text x="{x:.1f}" y="{y + 19:.1f}" text-anchor="middle">{_text(node.label)}</text></g>'
        )


def _text(text: str) -> str:
    """Escaped, without the control characters that XML has no place for."""
    return escape("".join(c if c >= " " or c == "\n" else "�" for c in text if not "\ud800" <= c <= "\udfff"))
