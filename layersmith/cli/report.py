"""``report``: a page that shows what a build did, when and why. In: a build's record. Out: an HTML file."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layersmith.cli.builds import BUILD_HELP, builds_of
from layersmith.cli.stores import open_store
from layersmith.errors import LayersmithError
from layersmith.oci.digest import digest_of

if TYPE_CHECKING:
    from layersmith.anatomy.space import Space
    from layersmith.store import Store
    from layersmith.store.build_record import Build

REPORT_EXAMPLES = """\
examples:
  layersmith report                        of the last build, to report.html
  layersmith report web:1.2 -o web.html    of the last build of an image
  layersmith report ^1 -o - | less         of the build before the last, to standard output
"""


def report_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("build", nargs="?", default="", metavar="BUILD", help=BUILD_HELP)
    parser.add_argument(
        "-o",
        "--output",
        default="report.html",
        metavar="FILE",
        help="where to (default: report.html); - is stdout",
    )


def report(args: Namespace) -> int:
    """Write the page."""
    from layersmith.cli.pages.report import report as written

    build = builds_of(args).find(args.build)
    with open_store(args) as store:
        found, config = _image(store, build)
    write_page(written(build, texts_of(build), found, config), args.output)
    return 0


def write_page(text: str, output: str) -> None:
    """To a file, or to standard output. What is no UTF-8 in a name has been escaped before."""
    data = text.encode("utf-8", "backslashreplace")
    if output == "-":
        sys.stdout.buffer.write(data)
    else:
        Path(output).write_bytes(data)
        print(output)


def _image(store: Store, build: Build) -> tuple[Space | None, dict[str, Any] | None]:
    """What the image's layers hold, and its config; nothing if it was not made, or is no longer there."""
    if not build.image:
        return None, None
    from layersmith.anatomy.images import find
    from layersmith.anatomy.space import space

    try:
        _, image = find(store, build.image)
        return space(store, image), json.loads(image.config.to_json())
    except LayersmithError as error:
        print(f"warning: without layers and config: {error.message}", file=sys.stderr)
        return None, None


def texts_of(build: Build) -> dict[str, list[tuple[int, str]]]:
    """Numbered lines of the files that the steps are written in, by name: the Buildfile first, then what it includes.

    All lines of the Buildfile, if it is where it was and what it was; of anything else what the record has.
    """
    found: dict[str, set[tuple[int, str]]] = {build.buildfile: set()}
    for step in build.steps:
        if step.line:
            found.setdefault(step.file or build.buildfile, set()).add((step.line, step.instruction))
    texts = {name: sorted(lines) for name, lines in found.items()}
    for path in (Path(build.buildfile), Path(build.context) / build.buildfile):
        try:
            data = path.read_bytes()
        except OSError:
            continue
        if digest_of(data) == build.text_digest:
            lines = data.decode("utf-8", "replace").splitlines()
            return texts | {build.buildfile: list(enumerate(lines, 1))}
    return texts
