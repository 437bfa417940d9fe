"""``layersmith verify``: is an image what its Buildfile makes, bit by bit? Builds again from nothing, and compares.

"From nothing" is an empty store and no cache: every step runs, every URL and repository is fetched. Base images are the
same ones, whatever their names mean by then.
"""

from __future__ import annotations

import json
import os
import sys
from argparse import SUPPRESS, ArgumentParser, Namespace
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from layersmith.cli.build import build_options
from layersmith.cli.table import terminal_safe
from layersmith.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from layersmith.anatomy.reproduction import Difference, Verdict
    from layersmith.build import BuildRequest, Built
    from layersmith.image import Image
    from layersmith.oci.descriptor import Descriptor
    from layersmith.oci.platform import Platform
    from layersmith.store import Store
    from layersmith.store.build_record import Build

VERIFY_EXAMPLES = """\
examples:
  layersmith verify .                              is this Buildfile reproducible? builds it twice
  layersmith verify web:1.2                        is this image what it was built from? (as the store remembers that)
  layersmith verify -f web.build web:1.2 ./src     the same of an image that was built elsewhere
  layersmith verify --format json . | jq '.platforms[].layers[] | select(.identical | not)'

Ends with 0 if every layer and the config are bit-identical, with 1 if not. Takes the options of `layersmith build` that
change the image; give those that it was built with, --build-arg above all. Without --source-date-epoch (or
$SOURCE_DATE_EPOCH) a Buildfile is built with the epoch 0, an image with the one that its config tells.
"""

WITHOUT_MEANING = frozenset(
    [
        "tag",
        "output",
        "push",
        "load",
        "annotation",
        "iidfile",
        "metadata_file",
        "no_cache",
        "no_cache_filter",
        "dry_run",
        "print_graph",
        "explain",
        "on_error",
        "keep_going",
        "cache_to",
        "cache_from",
        "cache_mounts",
    ]
)
"""Options of build that change no image, or what happens to it afterwards."""

TOLD = 40
"""Differences of a layer that are printed for a person; JSON has more."""

Images = dict["Platform", "Image"]


def verify_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "words",
        nargs="*",
        metavar="IMAGE|BUILDFILE|DIR",
        help="what to verify (default: .); after an IMAGE the context that it was built from",
    )
    build_options(parser)
    for action in parser._actions:
        if action.dest in WITHOUT_MEANING:
            action.help = SUPPRESS
    parser.add_argument("--format", choices=("text", "json"), default="text", help="(default: text)")
    parser.add_argument(
        "--in", dest="place", metavar="DIR", help="build again in a store there, which is kept"
    )
    parser.set_defaults(compression=None, context=".")


def verify(args: Namespace) -> int:
    """Build again from nothing, and say whether the result is the same."""
    from layersmith.anatomy.reproduction import compare
    from layersmith.cli.build import isolation
    from layersmith.cli.progress import display
    from layersmith.dataclass import replace
    from layersmith.store import Store

    _refuse(args)
    with ExitStack() as stack:
        isolate = isolation(stack)
        if os.geteuid() != 0:
            isolate()
        progress = stack.enter_context(display(args.progress, quiet=args.quiet))
        store = stack.enter_context(Store.open(None if args.root is None else Path(args.root)))
        subject = _subject(args, store)
        again = Path(args.place) if args.place else store.temporary("verify") / "store"
        fresh = stack.enter_context(Store.open(again))
        builder = _Builder(args, store, isolate, progress)
        if subject.descriptor is None:
            built = builder.build(store)
            images = {variant.platform: variant.image for variant in built.variants}
        else:
            images = _images(store, subject.descriptor, builder.request.platforms if args.platform else ())
            builder.request = replace(builder.request, platforms=tuple(images))
        second = builder.build(fresh, from_nothing=True)
        for variant in second.variants:
            below = variant.plan.base.config.diff_ids
            if images[variant.platform].config.diff_ids[: len(below)] != below:
                print(
                    f"warning: {subject.name} was built on another base image than today's", file=sys.stderr
                )
        verdicts = {
            variant.platform: compare((store, images[variant.platform]), (fresh, variant.image))
            for variant in second.variants
        }
    _report(args, subject.name, verdicts)
    return 0 if all(verdict.identical for verdict in verdicts.values()) else 1


def _refuse(args: Namespace) -> None:
    for name, flag in (
        ("tag", "--tag"),
        ("output", "--output"),
        ("push", "--push"),
        ("iidfile", "--iidfile"),
    ):
        if getattr(args, name, None):
            raise UsageError(f"verify keeps nothing: {flag} makes no sense", hint="use `layersmith build`")


# What to verify


class _Subject(NamedTuple):
    """What messages call it, and the image; None for what a Buildfile makes."""

    name: str
    descriptor: Descriptor | None = None


def _subject(args: Namespace, store: Store) -> _Subject:
    """Says in ``args`` what to build: the context, the Buildfile, and what else is known."""
    from layersmith.execute.contexts import is_remote

    words = list(args.words) or ["."]
    if len(words) > 2:
        raise UsageError("verify takes an image and a context, or a context")
    first = words[0]
    if len(words) == 1 and (first == "-" or is_remote(first) or Path(first).exists()):
        args.context = first
        if args.source_date_epoch is None and "SOURCE_DATE_EPOCH" not in os.environ:
            args.source_date_epoch = "0"
        args.compression = args.compression or "zstd"
        return _Subject(first)
    descriptor = store.refs.resolve(first)
    if len(words) == 2:
        args.context = words[1]
    else:
        _as_recorded(args, store, first, descriptor)
    _as_in_the_image(args, store, descriptor)
    return _Subject(first, descriptor)


def _as_recorded(args: Namespace, store: Store, name: str, descriptor: Descriptor) -> None:
    """What the store remembers of how the image was built, where ``args`` don't say it themselves."""
    from layersmith.oci.digest import digest_of

    build = next((build for build in store.builds.recent() if build.image == descriptor.digest), None)
    if build is None or not build.context:
        raise NotFoundError(
            f"the store does not know how {name} was built", hint=f"layersmith verify {name} CONTEXT"
        )
    args.context = build.context
    args.target = args.target or build.target or None
    args.platform = args.platform or list(build.platforms)
    if args.source_date_epoch is None and build.epoch is not None:
        args.source_date_epoch = str(build.epoch)
    if args.file is None:
        args.file = _buildfile(build)
    if args.file and build.text_digest and digest_of(Path(args.file).read_bytes()) != build.text_digest:
        print(f"warning: {args.file} is no longer what {name} was built from", file=sys.stderr)


def _buildfile(build: Build) -> str | None:
    """The Buildfile's path, if it is where the record says; it was noted relative to a directory that nobody knows."""
    for place in (Path(build.context), Path(build.context).parent, Path()):
        path = place / build.buildfile
        if build.buildfile and path.is_file():
            return str(path)
    return None


def _as_in_the_image(args: Namespace, store: Store, descriptor: Descriptor) -> None:
    """What the image itself tells of how it was built."""
    from layersmith.anatomy.images import manifest_of
    from layersmith.image import Image
    from layersmith.oci import mediatype
    from layersmith.oci.timestamp import parse_rfc3339

    image = Image.read(store, manifest_of(store, descriptor))
    created = parse_rfc3339(image.config.created or "")
    if args.source_date_epoch is None and "SOURCE_DATE_EPOCH" not in os.environ and created is not None:
        args.source_date_epoch = str(int(created))
    if args.compression is None:
        top = image.layers[-1].descriptor.media_type if image.layers else ""
        args.compression = mediatype.compression(top) or "zstd"


def _images(store: Store, descriptor: Descriptor, platforms: tuple[Platform, ...]) -> Images:
    """The image for each platform: for all that an index lists, unless ``platforms`` are asked for."""
    from layersmith.image import Image
    from layersmith.oci.descriptor import ATTESTATION
    from layersmith.oci.manifest import Index, parse_manifest

    document = parse_manifest(store.blobs.read(descriptor), descriptor.media_type)
    if not isinstance(document, Index):
        image = Image.read(store, descriptor)
        return {platforms[0] if platforms else image.config.platform: image}
    listed = (entry for entry in document.manifests if entry.annotation(ATTESTATION) is None)
    wanted = platforms or tuple(entry.platform for entry in listed if entry.platform is not None)
    return {platform: Image.read(store, descriptor, platform) for platform in wanted}


# Building


class _Builder:
    """Builds the same request in two stores, on the same base images."""

    def __init__(self, args: Namespace, store: Store, isolate: object, progress: object) -> None:
        from layersmith.bases import SteadyBases
        from layersmith.cli.build import bases_of
        from layersmith.cli.request import build_request

        self.request: BuildRequest
        self.request, named = build_request(args, store)
        self.isolate = isolate
        self.progress = progress
        self.bases = SteadyBases(bases_of(args, store, named, progress))  # type: ignore[arg-type]

    def build(self, store: Store, *, from_nothing: bool = False) -> Built:
        from layersmith.build import build as build_image
        from layersmith.cli.sources import fetch
        from layersmith.dataclass import replace

        settings = replace(self.request.settings, no_cache=from_nothing)
        listed = {descriptor.digest for _, descriptor in store.refs.list()}
        built = build_image(
            store,
            replace(self.request, settings=settings),
            bases=self.bases.into(store),
            isolate=self.isolate,  # type: ignore[arg-type]
            fetch=fetch,
            progress=self.progress,  # type: ignore[arg-type]
        )
        if built.descriptor.digest not in listed:
            store.refs.forget([built.descriptor.digest])
        return built


# What came of it


def _report(args: Namespace, name: str, verdicts: dict[Platform, Verdict]) -> None:
    identical = all(verdict.identical for verdict in verdicts.values())
    if args.format == "json":
        platforms = [
            {"platform": str(platform), **verdict.to_json()} for platform, verdict in verdicts.items()
        ]
        print(json.dumps({"subject": name, "identical": identical, "platforms": platforms}, indent=2))
        return
    for platform, verdict in verdicts.items():
        where = f"{platform} " if len(verdicts) > 1 else ""
        for layer in verdict.layers:
            digest = (layer.first or layer.second).descriptor.digest[7:19]  # type: ignore[union-attr]
            state = "identical" if layer.identical else "DIFFERS"
            print(f"{where}layer {layer.number}  {digest}  {state}  {_cut(layer.created_by)}")
            for difference in layer.differences[:TOLD]:
                print(f"    {_told(difference)}")
            more = len(layer.differences[TOLD:]) + layer.more
            if more:
                print(f"    and {more} more")
        for difference in verdict.config:
            print(f"{where}config  DIFFERS  {_told(difference)}")
    layers = [layer for verdict in verdicts.values() for layer in verdict.layers]
    same = sum(layer.identical for layer in layers)
    print(
        f"{name}: {same} of {len(layers)} layers are bit-identical{'' if identical else ': not reproducible'}"
    )


def _told(difference: Difference) -> str:
    what = f"{difference.path} {difference.what}".strip()
    return terminal_safe(f"{what}: {difference.first} in the first build, {difference.second} in the second")


def _cut(text: str, width: int = 80) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
