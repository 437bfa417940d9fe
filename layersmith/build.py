"""THE LINE: text --parse--> Buildfile --plan--> Plan --solve--> Image.

In: a `BuildRequest`. Out: `Built`, an image in the store. Exporting it is `transport`'s, for it already lies there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from layersmith.buildfile.instructions import Buildfile, Check, Include
from layersmith.buildfile.lines import read_check
from layersmith.buildfile.parser import parse
from layersmith.context import Context
from layersmith.dataclass import dataclass, replace
from layersmith.errors import CacheSourceError, PlanError
from layersmith.execute.tree import Tree
from layersmith.image import Image
from layersmith.oci.config import History
from layersmith.oci.descriptor import Descriptor
from layersmith.oci.digest import digest_of
from layersmith.oci.manifest import Index
from layersmith.oci.platform import Platform
from layersmith.oci.timestamp import parse_rfc3339, rfc3339
from layersmith.ops import ContextInput
from layersmith.plan import Bases, Plan, PlanOptions, plan_platforms
from layersmith.progress import BuiltLayer, ImageBuilt, Notice, NullProgress, Planned, PlannedStep, Progress
from layersmith.solve import Isolate, Settings, Solved, Solver
from layersmith.solve.recorder import Recorder
from layersmith.source import Source, Span
from layersmith.store import Build, Store

if TYPE_CHECKING:
    from layersmith.buildfile.rules import Finding
    from layersmith.lock import Lock
    from layersmith.remotecache.borrow import Borrowed

_MAX_LOSSES = 20
"""Layers of others' caches that may be gone before no more is tried."""

COMMENT = "buildkit.dockerfile.v0"


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What to build: ``text``, called ``name`` in messages, with the local directories of its contexts.

    ``tags`` are the names that the image gets. ``platforms``: those to build for, in one index if there are several;
    if there is none, ``options.platform``.
    """

    text: bytes
    name: str
    contexts: Mapping[str, Context]
    options: PlanOptions
    settings: Settings
    tags: tuple[str, ...] = ()
    place: str = "Buildfile"
    """The Buildfile's path in the main context (any name, if it lies elsewhere): INCLUDE is relative to it."""
    platforms: tuple[Platform, ...] = ()
    lock: Lock | None = None
    """What the names of images, URLs and repositories are to mean; ``locked``: of all of them."""
    locked: bool = False
    squash: str = ""
    """``new``: the layers of this build become one; ``all``: those of the base image, too."""


@dataclass(frozen=True, slots=True)
class Variant:
    """The image for one platform, its manifest's descriptor, and the plan that it came from."""

    platform: Platform
    descriptor: Descriptor
    image: Image
    plan: Plan


@dataclass(frozen=True, slots=True)
class Built:
    """What a build made: an image, or for several platforms an index of its ``variants``, and their layers."""

    descriptor: Descriptor
    variants: tuple[Variant, ...]
    solved: Solved
    record: Build | None = None
    """What the store keeps of the build."""

    @property
    def image(self) -> Image:
        """The image; of several, the first platform's."""
        return self.variants[0].image

    @property
    def plan(self) -> Plan:
        """The plan of `image`; its steps are those of all platforms."""
        return self.variants[0].plan


def build(
    store: Store,
    request: BuildRequest,
    *,
    bases: Bases,
    isolate: Isolate,
    fetch: Callable[..., object],
    progress: Progress | None = None,
    borrowed: Borrowed | None = None,
    inline_cache: bool = False,
) -> Built:
    """Build ``request`` into ``store``. Raises LayersmithError; then there is no image, and no name is changed.

    ``borrowed`` are the caches of others: where one turns out to be damaged or gone, the build begins anew without.
    ``inline_cache``: the image's config gets the cache records of its layers. `Store.builds` has a record of it
    afterwards, whatever came of it.
    """
    with Recorder(store, progress or NullProgress(), _asked(request)) as recorder:
        built = _build(store, request, bases, isolate, fetch, recorder, borrowed, inline_cache=inline_cache)
    return replace(built, record=recorder.record)


def _asked(request: BuildRequest) -> Build:
    """The record of a build that has done nothing yet."""
    options = request.options
    return Build(
        "",
        time.time(),
        names=request.tags,
        buildfile=request.name,
        text_digest=digest_of(request.text),
        context=os.path.abspath(request.contexts["main"].root) if "main" in request.contexts else "",
        target=options.target or "",
        platforms=tuple(str(platform) for platform in request.platforms or (options.platform,)),
        jobs=request.settings.jobs,
        epoch=request.settings.epoch,
    )


def _build(
    store: Store,
    request: BuildRequest,
    bases: Bases,
    isolate: Isolate,
    fetch: Callable[..., object],
    progress: Recorder,
    borrowed: Borrowed | None,
    *,
    inline_cache: bool,
) -> Built:
    started = time.monotonic()
    platforms, plans = planned_for(request, bases)
    for warning in dict.fromkeys(warning for planned in plans for warning in planned.warnings):
        progress.emit(Notice("warning", warning))
    progress.planned(plans[0])
    progress.emit(planned_steps(plans[0]))

    def attempt() -> tuple[Solved, list[Image]]:
        solved = Solver(
            store,
            plans[0],
            trees_of(request),
            isolate=isolate,
            settings=request.settings,
            progress=progress,
            fetch=fetch,
            recorder=progress,
        ).solve()
        images = [assemble(planned, solved, request.settings.epoch) for planned in plans]
        if borrowed is not None:
            _complete(store, images, borrowed)
        return solved, images

    solved, images = _persistently(attempt, borrowed, progress)
    if request.squash:
        images = [
            _squashed(store, request, image, planned) for image, planned in zip(images, plans, strict=True)
        ]
    images = [image if image.layers else _with_a_layer(store, request, image) for image in images]
    if inline_cache:
        from layersmith.remotecache.lend import embedded

        images = [embedded(store, image) for image in images]
    variants = tuple(
        Variant(platform, image.write(store), image, planned)
        for platform, image, planned in zip(platforms, images, plans, strict=True)
    )
    descriptor = _result(store, variants, request.options)
    for tag in request.tags:
        store.refs.set(tag, descriptor)
    if not request.tags:
        store.refs.keep(descriptor)
    _warn_of_findings(request, progress)
    progress.built(descriptor.digest)
    layers = built_layers(images, solved)
    progress.emit(ImageBuilt(descriptor.digest, request.tags, layers, time.monotonic() - started))
    return Built(descriptor, variants, solved)


def _with_a_layer(store: Store, request: BuildRequest, image: Image) -> Image:
    """With an empty layer: image-spec's schema wants one at least, and so do registries that go by it."""
    from layersmith.layer.pack import pack

    layer = pack(store, (), compression=request.settings.compression).layer
    *lines, last = image.config.history or (History(image.config.created),)
    # Its last line has the layer, so the history tells what the Buildfile says and nothing else.
    bare = replace(image, config=replace(image.config, history=tuple(lines)))
    return bare.append(layer, last)


def _squashed(store: Store, request: BuildRequest, image: Image, planned: Plan) -> Image:
    from layersmith.transport.squash import squash

    keep = 0 if request.squash == "all" else len(planned.base.layers)
    settings = request.settings
    return squash(store, image, keep=keep, compression=settings.compression, epoch=settings.epoch)


def _persistently(
    attempt: Callable[[], tuple[Solved, list[Image]]], borrowed: Borrowed | None, progress: Progress
) -> tuple[Solved, list[Image]]:
    """Begin anew where a layer of a borrowed cache can't be had; what steps have done by then is in the cache."""
    for _ in range(_MAX_LOSSES if borrowed is not None else 0):
        assert borrowed is not None
        try:
            return attempt()
        except CacheSourceError as error:
            progress.emit(Notice("info", f"{error.message}; building without it"))
            borrowed.give_back(error.digest)
    if borrowed is not None:
        borrowed.give_back()
    return attempt()


def _complete(store: Store, images: Iterable[Image], borrowed: Borrowed) -> None:
    """Fetch those layers of the result that no step had to see, and keep the records of all that is here."""
    from layersmith.transport.missing import fetch_missing

    layers = [layer for image in images for layer in image.layers]
    fetch_missing(store, (layer.descriptor for layer in layers))
    borrowed.verify(layers)
    store.cache.settle()


def planned_steps(plan: Plan) -> Planned:
    """The plan's steps, as progress tells them."""
    return Planned(
        tuple(
            PlannedStep(
                number,
                step.name,
                type(step.op).__name__.removesuffix("Op").lower(),
                step.stage,
                step.needs,
                step.span.source.name if step.span else "",
                step.span.line if step.span else 0,
            )
            for number, step in enumerate(plan.steps)
        )
    )


def built_layers(images: Iterable[Image], solved: Solved) -> tuple[BuiltLayer, ...]:
    """The layers of the images, as progress tells them."""
    steps = {layer.descriptor.digest: step for step, layer in solved.layers.items()}
    layers = dict.fromkeys(layer.descriptor for image in images for layer in image.layers)
    return tuple(BuiltLayer(steps.get(layer.digest), layer.digest, layer.size) for layer in layers)


def planned_for(request: BuildRequest, bases: Bases) -> tuple[tuple[Platform, ...], tuple[Plan, ...]]:
    """The platforms to build for and the plan for each; they share their steps. Raises as `build`."""
    buildfile = read(request)
    platforms = request.platforms or (request.options.platform,)
    if request.lock is None:
        plans = plan_platforms(buildfile, request.options, platforms, bases)
    else:
        from layersmith.lock import LockedBases, pinned

        locked = LockedBases(bases, request.lock, strict=request.locked)
        plans = plan_platforms(buildfile, request.options, platforms, locked)
        plans = pinned(plans, request.lock, strict=request.locked)
    _fail_on_findings(buildfile, request)
    return platforms, plans


def trees_of(request: BuildRequest) -> dict[ContextInput, Tree]:
    """The files of the request's contexts."""
    return {ContextInput(name): Tree.of_context(context) for name, context in request.contexts.items()}


def _result(store: Store, variants: tuple[Variant, ...], options: PlanOptions) -> Descriptor:
    """The one image, or the index of several; BuildKit's argument BUILDKIT_MULTI_PLATFORM makes one for a single one, too."""
    always = options.build_args.get("BUILDKIT_MULTI_PLATFORM", "").lower() in ("1", "true")
    if len(variants) == 1 and not always:
        return variants[0].descriptor
    index = Index(tuple(replace(variant.descriptor, platform=variant.platform) for variant in variants))
    data = index.to_json()
    store.blobs.put(data)
    return Descriptor.of(index.media_type, data)


def _fail_on_findings(buildfile: Buildfile, request: BuildRequest) -> None:
    """``# check=error=true``: what ``layersmith check`` finds ends the build, as it does in BuildKit."""
    check = _check_of(buildfile, request)
    if check is None or not check.error:
        return
    errors = [
        PlanError(f"{finding.rule}: {finding.message}", span=finding.span) for finding in _findings(request)
    ]
    if errors:
        errors[0].others = tuple(errors[1:])
        raise errors[0]


def _check_of(buildfile: Buildfile, request: BuildRequest) -> Check | None:
    """The ``# check=`` directive, or the build argument BUILDKIT_DOCKERFILE_CHECK, which takes its place."""
    given = request.options.build_args.get("BUILDKIT_DOCKERFILE_CHECK")
    if given is None:
        return buildfile.directives.check
    source = Source("BUILDKIT_DOCKERFILE_CHECK", given)
    return read_check(given, Span(source, 1, 1, 1, len(given) + 1))


def _findings(request: BuildRequest) -> tuple[Finding, ...]:
    """What ``layersmith check`` says of the Buildfile itself; of those that it includes, nothing."""
    from layersmith.buildfile.lint import LintOptions, lint

    buildfile = parse(request.text, request.name)
    options = LintOptions(build_args=request.options.build_args, check=_check_of(buildfile, request))
    return lint(buildfile, options)


def _warn_of_findings(request: BuildRequest, progress: Recorder) -> None:
    """As BuildKit does, yet only where something had to run: who gets all from the cache has seen them before.

    The plan has warned of undefined variables, and it knows the base images' environments.
    """
    if not progress.ran:
        return
    for finding in _findings(request):
        if finding.rule != "UndefinedVar":
            progress.emit(Notice("warning", f"{finding.span}: {finding.rule}: {finding.message}"))


def read(request: BuildRequest) -> Buildfile:
    """The request's Buildfile, parsed, its INCLUDEs resolved in the main context."""
    return included(parse(request.text, request.name), request.contexts["main"], request.place)


def included(buildfile: Buildfile, context: Context, place: str) -> Buildfile:
    """``buildfile``, which is at ``place`` in ``context``, with its INCLUDEs resolved. Raises `BuildfileSyntaxError`."""
    if not any(isinstance(instruction, Include) for instruction in buildfile.instructions):
        return buildfile
    from layersmith.buildfile.include import resolve_includes

    return resolve_includes(buildfile, _reader(context), path=place)


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

    A layer that came from the cache keeps the time at which it was made, and a line without a layer has that of what
    is below it, so the same build twice is the same image. Later times than ``epoch`` are lowered to it, the base's
    as well.
    """
    image = planned.base if epoch is None else _clamped(planned.base, epoch)
    made = _first_time(planned, solved) if epoch is None else float(epoch)
    for line in planned.history:
        layer = None if line.step is None else solved.layers[line.step]
        if line.step is not None and epoch is None:
            made = max(made, solved.created[line.step])
        image = image.append(layer, History(rfc3339(made), line.created_by, comment=COMMENT))
    if epoch is None and not any(line.step is not None for line in planned.history) and image.config.created:
        return image.configured(replace(planned.config, created=image.config.created))
    return image.configured(replace(planned.config, created=rfc3339(made)))


def _first_time(planned: Plan, solved: Solved) -> float:
    """What the lines above the first layer's have: the base's time, else the first layer's, else now."""
    base = parse_rfc3339(planned.base.config.created or "")
    layers = (solved.created[line.step] for line in planned.history if line.step is not None)
    return base or next(layers, None) or time.time()


def _clamped(base: Image, epoch: int) -> Image:
    """``base`` with no time in its history later than ``epoch``, as BuildKit has it; its layers are not ours."""
    history = tuple(
        replace(entry, created=rfc3339(epoch)) if (parse_rfc3339(entry.created or "") or 0) > epoch else entry
        for entry in base.config.history
    )
    return replace(base, config=replace(base.config, history=history))
