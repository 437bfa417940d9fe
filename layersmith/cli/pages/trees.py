"""The layers of an image as trees to walk through. In: `Space`. Out: the page's text; `explore.js` draws the trees."""

from __future__ import annotations

from typing import Any

from layersmith.anatomy.space import LayerFile, Space
from layersmith.cli.pages.html import Markup, element, join
from layersmith.cli.pages.page import page
from layersmith.cli.table import printable
from layersmith.cli.units import human_size


def trees(name: str, digest: str, found: Space) -> str:
    """The page for an image called ``name``."""
    facts = (
        ("layers", str(len(found.layers))),
        ("files' bytes", human_size(found.size)),
        ("wasted", human_size(found.wasted)),
        ("efficiency", f"{found.efficiency:.1%}"),
    )
    body = join(
        element("h1", f"Layers of {name}"),
        element("p", element("code", digest), class_="soft"),
        element("ul", *(element("li", what, element("b", value)) for what, value in facts), class_="facts"),
        element(
            "p",
            "Wasted: bytes of files that a later layer overwrites or deletes. Efficiency as dive counts it: the least"
            " size of every path in any layer, over the sum of its sizes in all layers.",
            class_="soft",
        ),
        element("main", _layers(), _files()),
    )
    return page(f"{name}: layersmith explore", body, scripts=("explore.js",), data=_data(found))


def _layers() -> Markup:
    return element(
        "section",
        element("h2", "Layers"),
        element("div", id="layers", role="group", aria_label="layers"),
    )


def _files() -> Markup:
    checks = [
        element(
            "label", element("input", type="checkbox", id=f"show-{kind}", checked=kind != "W"), f" {word} "
        )
        for kind, word in (("A", "added"), ("C", "changed"), ("D", "removed"), ("W", "wasted only"))
    ]
    return element(
        "section",
        element("h2", "Files"),
        element(
            "p",
            element(
                "input", type="search", id="search", placeholder="part of a path ( / )", aria_label="search"
            ),
            " ",
            *checks,
        ),
        element("p", id="count", class_="soft", aria_live="polite"),
        element("div", id="tree", role="tree", aria_label="files"),
        element(
            "p",
            "Arrow keys walk through the tree; A is added, C changed, D removed by the layer.",
            class_="soft",
        ),
    )


def _data(found: Space) -> dict[str, Any]:
    return {
        "layers": [
            {
                "number": layer.number,
                "digest": layer.layer.descriptor.digest,
                "packed": layer.layer.descriptor.size,
                "size": layer.size,
                "wasted": layer.wasted,
                "by": printable(layer.history.created_by or layer.history.comment or ""),
                "files": [_file(file) for file in layer.files],
            }
            for layer in found.layers
        ]
    }


def _file(file: LayerFile) -> list[Any]:
    kind = {b"5": "d", b"2": "l"}.get(file.kind, "f")
    return [printable(file.path), kind, file.size, file.change, file.gone, printable(file.link)]
