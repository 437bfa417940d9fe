"""The terminal browser of an image's layers. In: `Space`. Out: a textual application; the only module that loads it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import DataTable, Footer, Input, Static, Tree
from textual.widgets.tree import TreeNode

from layersmith.anatomy.space import LayerFile, LayerSpace, Space
from layersmith.cli.table import printable
from layersmith.cli.units import human_size
from layersmith.dataclass import dataclass, field
from layersmith.layer.entry import DIR

COLORS = {"A": "green", "C": "yellow", "D": "red", "": ""}
MOST = 2000
"""Of a directory's entries on the screen."""


@dataclass(slots=True)
class Folder:
    """A path with what lies below it; ``size`` and ``wasted`` are those of all of it."""

    name: str
    file: LayerFile | None = None
    size: int = 0
    wasted: int = 0
    children: dict[bytes, Folder] = field(default_factory=dict)


def folders(files: Iterable[LayerFile]) -> Folder:
    """The tree of ``files``."""
    root = Folder("/")
    for file in files:
        here = root
        wasted = file.size if file.gone else 0
        root.size, root.wasted = root.size + file.size, root.wasted + wasted
        for name in file.path.split(b"/"):
            here = here.children.setdefault(name, Folder(printable(name)))
            here.size, here.wasted = here.size + file.size, here.wasted + wasted
        here.file = file
    return root


class Explorer(App[None]):
    """Layers above, the files of the chosen one below."""

    CSS = """
    DataTable { height: 30%; min-height: 5; border-bottom: solid $primary; }
    #facts { height: 1; }
    Input { display: none; }
    Input.shown { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,escape", "leave", "Quit"),
        Binding("tab", "app.focus_next", "Layers/files"),
        Binding("slash", "search", "Search"),
        Binding("w", "wasted", "Wasted only"),
    ]
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, name: str, found: Space) -> None:
        super().__init__()
        self._image = name
        self._space = found
        self._number = 0
        self._only_wasted = False
        self._sought = ""

    def compose(self) -> ComposeResult:
        space = self._space
        yield Static(
            Text(
                f"{printable(self._image)}  {len(space.layers)} layers, {human_size(space.size)}, "
                f"{human_size(space.wasted)} wasted, efficiency {space.efficiency:.1%}",
                style="bold",
            ),
            id="facts",
        )
        with Vertical():
            yield DataTable(cursor_type="row", zebra_stripes=True)
            yield Input(placeholder="part of a path; Enter closes")
            yield Tree("/")
        yield Footer()

    def on_mount(self) -> None:
        table = self.query_one(DataTable)
        table.add_columns("#", "Size", "Wasted", "A", "C", "D", "Made by")
        table.add_row(
            "*",
            human_size(self._space.size),
            human_size(self._space.wasted),
            "",
            "",
            "",
            "the image, as it is seen",
        )
        for layer in self._space.layers:
            counts = [str(layer.count(change)) for change in "ACD"]
            made = Text(printable(layer.history.created_by or layer.history.comment or ""))
            table.add_row(str(layer.number), human_size(layer.size), human_size(layer.wasted), *counts, made)
        table.focus()
        self._fill()

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        self._number = event.cursor_row
        self._fill()

    def on_input_changed(self, event: Input.Changed) -> None:
        self._sought = event.value
        self._fill()

    def on_input_submitted(self) -> None:
        self.query_one(Tree).focus()

    def on_tree_node_expanded(self, event: Tree.NodeExpanded[Folder]) -> None:
        self._add_below(event.node)

    def action_search(self) -> None:
        box = self.query_one(Input)
        box.add_class("shown")
        box.focus()

    def action_wasted(self) -> None:
        self._only_wasted = not self._only_wasted
        self._fill()

    def action_leave(self) -> None:
        """Out of a search first."""
        box = self.query_one(Input)
        if not box.has_class("shown"):
            self.exit()
            return
        box.value = ""
        box.remove_class("shown")
        self.query_one(Tree).focus()

    def _fill(self) -> None:
        tree: Tree[Folder] = self.query_one(Tree)
        tree.clear()
        root = folders(self._files())
        tree.root.data = root
        tree.root.set_label(_label(root))
        self._add_below(tree.root)
        tree.root.expand()

    def _files(self) -> Iterable[LayerFile]:
        chosen: Iterable[LayerSpace] = self._space.layers
        if self._number:
            chosen = self._space.layers[self._number - 1 : self._number]
        wanted = self._sought.encode("utf-8", "surrogateescape")
        for layer in chosen:
            for file in layer.files:
                seen = self._number > 0 or (not file.gone and file.change != "D")
                if wanted in file.path and (file.gone and file.size if self._only_wasted else seen):
                    yield file

    def _add_below(self, node: TreeNode[Folder]) -> None:
        """When a directory is opened: a tree of all files at once would be slow to make."""
        if node.data is None or node.children:
            return
        below = sorted(node.data.children.values(), key=lambda child: (-child.size, child.name))
        for child in below[:MOST]:
            node.add(_label(child), data=child, allow_expand=bool(child.children), expand=False)
        if len(below) > MOST:
            node.add_leaf(f"… and {len(below) - MOST} more")


def _label(folder: Folder) -> Text:
    file = folder.file
    change = "" if file is None else file.change
    text = Text.assemble((f"{change or ' '} ", COLORS[change]), f"{human_size(folder.size):>7}  ")
    text.append(folder.name, "strike" if file is not None and file.gone else "")
    if (folder.children and folder.name != "/") or (file is not None and file.kind == DIR):
        text.append("/")
    if file is not None and file.link:
        text.append(f" → {printable(file.link)}", "dim")
    if file is not None and file.gone:
        text.append(f"  gone in layer {file.gone}", "red")
    elif folder.wasted:
        text.append(f"  {human_size(folder.wasted)} wasted", "yellow")
    return text
