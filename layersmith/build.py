"""THE LINE: text --parse--> Buildfile --plan--> Plan --solve--> Image.

In: a `BuildRequest`. Out: `Built`, an image in the store. Exporting it is `transport`'s, for it already lies there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from layersmith.bases import StoreBases
from layersmith.buildfile.instructions import Buildfile, Include
from layersmith.buildfile.lines import read_check
from layersmith.buildfile.parser import parse
from layersmith.context import Context
from layersmith.errors import PlanError
from layersmith.execute.tree import Tree
from layersmith.image import Image
from layersmith.oci.config import History
from layersmith.oci.descriptor import Descriptor
from layersmith.oci.timestamp import rfc3339
from layersmith.ops import ContextInput
from layersmith.plan import Plan, PlanOptions, plan
from layersmith.progress import Notice, NullProgress, Progress
from layersmith.solve import Isolate, Settings, Solved, Solver
from layersmith.source import Source, Span
from layersmith.store import Store

COMMENT = "buildkit.dockerfile.v0"


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What to build: ``text``, called ``name`` in messages, with the local directories of its contexts.

    ``tags`` are the names that the image gets.
    """

    text: bytes
    name: str
    contexts: Mapping[str, Context]
    options: PlanOptions
    settings: Settings
    tags: tuple[str, ...] = ()
    place: str = "Buildfile"
    """The Buildfile's path in the main context (any name, if it lies elsewhere): INCLUDE is relative to it."""


@dataclass(frozen=True, slots=True)
class Built:
    """The image, its manifest's descriptor, and the plan and layers that it came from."""

    descriptor: Descriptor
    image: Image
    plan: Plan
    solved: Solved


def build(
    store: Store,
    request: BuildRequest,
    *,
    bases: StoreBases,
    isolate: Isolate,
    fetch: Callable[..., object],
    progress: Progress | None = None,
) -> Built:
    """Build ``request`` into ``store``. Raises LayersmithError; then there is no image, and no name is changed."""
    progress = progress or NullProgress()
    buildfile = read(request)
    planned = plan(buildfile, request.options, bases)
    _fail_on_findings(buildfile, request)
    for warning in planned.warnings:
        progress.emit(Notice("warning", warning))
    trees = {ContextInput(name): Tree.of_context(context) for name, context in request.contexts.items()}
    solved = Solver(
        store, planned, trees, isolate=isolate, settings=request.settings, progress=progress, fetch=fetch
    ).solve()
    image = assemble(planned, solved, request.settings.epoch)
    descriptor = image.write(store)
    for tag in request.tags:
        store.refs.set(tag, descriptor)
    if not request.tags:
        store.refs.keep(descriptor)
    return Built(descriptor, image, planned, solved)


def _fail_on_findings(buildfile: Buildfile, request: BuildRequest) -> None:
    """``# check=error=true``: what ``layersmith check`` finds ends the build, as it does in BuildKit.

    The build argument BUILDKIT_DOCKERFILE_CHECK takes the directive's place.
    """
    given = request.options.build_args.get("BUILDKIT_DOCKERFILE_CHECK")
    if given is None:
        check = buildfile.directives.check
    else:
        source = Source("BUILDKIT_DOCKERFILE_CHECK", given)
        check = read_check(given, Span(source, 1, 1, 1, len(given) + 1))
    if check is None or not check.error:
        return
    from layersmith.buildfile.lint import LintOptions, lint

    findings = lint(
        parse(request.text, request.name), LintOptions(build_args=request.options.build_args, check=check)
    )
    if findings:
        first, *others = [
            PlanError(f"{finding.rule}: {finding.message}", span=finding.span) for finding in findings
        ]
        first.others = tuple(others)
        raise first


def read(request: BuildRequest) -> Buildfile:
    """The request's Buildfile, parsed, its INCLUDEs resolved in the main context."""
    buildfile = parse(request.text, request.name)
    if not any(isinstance(instruction, Include) for instruction in buildfile.instructions):
        return buildfile
    from layersmith.buildfile.include import resolve_includes

    return resolve_includes(buildfile, _reader(request.contexts["main"]), path=request.place)


def _reader(context: Context) -> Callable[[str], bytes | None]:
    """Reads files of a context for INCLUDE; what is ignored, or leads outside, is not there."""
    from layersmith.linux.rooted import read_in_root

    def read(path: str) -> bytes | None:
        if context.ignore is not None and context.ignore.hides(path):
            return None
        root = os.open(context.root, os.O_PATH | os.O_DIRECTORY)
        try:
            return read_in_root(root, path)
        except OSError:
            return None
        finally:
            os.close(root)

    return read


def assemble(planned: Plan, solved: Solved, epoch: int | None) -> Image:
    """The plan's image: its base, and for each line of its history a layer or none.

    A layer that came from the cache keeps the time at which it was made, so the same build twice is the same image.
    """
    made = float(epoch if epoch is not None else 0)
    image = planned.base
    for line in planned.history:
        layer = None if line.step is None else solved.layers[line.step]
        if line.step is not None and epoch is None:
            made = max(made, solved.created[line.step])
        created = rfc3339(made or time.time())
        image = image.append(layer, History(created, line.created_by, comment=COMMENT))
    known = rfc3339(made) if made or epoch is not None else planned.base.config.created
    return image.configured(replace(planned.config, created=known or rfc3339(time.time())))
