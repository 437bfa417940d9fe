"""``explore``: the layers of an image as trees of files, on a terminal or as a page. In: an image's name."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace

from layersmith.cli.stores import open_store, platform_argument, platform_of
from layersmith.errors import UsageError

EXPLORE_EXAMPLES = """\
examples:
  layersmith explore web                    on the terminal
  layersmith explore web --html web.html    as a page for a browser
  layersmith explore web --format json      the figures only

Efficiency is what dive calls so: the least size of every path in any layer, over the sum of its sizes in all layers.
"""


def explore_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("image", metavar="IMAGE", help="a name, or the beginning of a digest")
    parser.add_argument("--html", metavar="FILE", help="write a page to FILE; - is stdout")
    parser.add_argument("--format", choices=("json",), help="print the layers' figures and what is wasted")
    platform_argument(parser)


def explore(args: Namespace) -> int:
    """Show what every layer adds, changes and deletes, and what that wastes."""
    from layersmith.anatomy.images import find
    from layersmith.anatomy.space import space

    on_terminal = args.html is None and args.format is None
    if on_terminal:
        _check_terminal()
    with open_store(args) as store:
        descriptor, image = find(store, args.image, platform_of(args))
        found = space(store, image)
    if args.html is not None:
        from layersmith.cli.pages.trees import trees
        from layersmith.cli.report import write_page

        write_page(trees(args.image, descriptor.digest, found), args.html)
    elif args.format:
        _print_figures(args.image, descriptor.digest, found)
    else:
        from layersmith.cli.explorer import Explorer

        Explorer(args.image, found).run()
    return 0


def _check_terminal() -> None:
    import importlib.util

    if importlib.util.find_spec("textual") is None:
        raise UsageError(
            "explore needs textual to show an image on the terminal",
            hint="pip install 'layersmith[explore]', or write a page with --html FILE",
        )
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "explore needs a terminal", hint="write a page with --html FILE, or use --format json"
        )


def _print_figures(name: str, digest: str, found: object) -> None:
    import json

    from layersmith.anatomy.differences import shown_path
    from layersmith.anatomy.space import Space
    from layersmith.cli.listing import emit

    assert isinstance(found, Space)
    figures = {
        "Image": name,
        "Digest": digest,
        "Size": found.size,
        "Wasted": found.wasted,
        "Efficiency": round(found.efficiency, 6),
        "Layers": [
            {
                "Number": layer.number,
                "Digest": layer.layer.descriptor.digest,
                "Size": layer.size,
                "Wasted": layer.wasted,
                "Added": layer.count("A"),
                "Changed": layer.count("C"),
                "Deleted": layer.count("D"),
                "CreatedBy": layer.history.created_by or "",
            }
            for layer in found.layers
        ],
        "WastedFiles": [
            {
                "Path": shown_path(file.path),
                "Size": file.size,
                "Layer": layer.number,
                "GoneInLayer": file.gone,
            }
            for layer, file in found.waste(1000)
        ],
    }
    emit(json.dumps(figures))
