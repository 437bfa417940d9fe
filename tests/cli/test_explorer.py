"""The terminal browser, driven by keys."""

from __future__ import annotations

import asyncio

import pytest
from pages import made_space

pytest.importorskip("textual", reason="needs textual")

from textual.widgets import DataTable, Tree

from layersmith.cli.explorer import Explorer


def labels(app: Explorer) -> list[str]:
    return [str(node.label).strip() for node in app.query_one(Tree).root.children]


def test_by_keys() -> None:
    """Choose a layer, open a directory, see what is wasted, search, leave."""

    async def drive() -> None:
        app = Explorer("web", made_space())
        async with app.run_test(size=(120, 40)) as pilot:
            assert app.query_one(DataTable).row_count == 3
            assert len(labels(app)) == 2  # opt, and the file with the long name
            await pilot.press("down")
            await pilot.pause()
            tree = app.query_one(Tree)
            assert "5.0kB wasted" in str(tree.root.label)
            await pilot.press("tab", "down", "enter")
            await pilot.pause()
            below = [str(node.label) for node in tree.root.children[0].children]
            assert "gone in layer 2" in below[0]
            assert "\\xff\\xfe" in below[1]
            await pilot.press("w")
            await pilot.pause()
            assert len(labels(app)) == 1
            await pilot.press("w", "slash", *"img")
            await pilot.pause()
            assert len(labels(app)) == 1
            assert "<img" in labels(app)[0]
            await pilot.press("escape")
            await pilot.pause()
            assert len(labels(app)) == 2
            await pilot.press("q")
        assert app.return_code == 0

    asyncio.run(drive())
