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
    write_page(written(build, buildfile_lines(build), found, config), args.output)
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


def buildfile_lines(build: Build) -> list[tuple[int, str]]:
    """The Buildfile's numbered lines, if it is where it was and what it was; else what the record has of them."""
    mine = [step for step in build.steps if step.source.rpartition(":")[0] in (build.buildfile, "")]
    recorded = sorted({(step.line, step.instruction) for step in mine if step.line})
    for path in (Path(build.buildfile), Path(build.context) / build.buildfile):
        try:
            data = path.read_bytes()
        except OSError:
            continue
        if digest_of(data) == build.text_digest:
            return list(enumerate(data.decode("utf-8", "replace").splitlines(), 1))
    return recorded
