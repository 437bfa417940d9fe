"""``layersmith build``: flags as in docker buildx, then one call of `layersmith.build.build`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from layersmith.cli.caches import cache_arguments, caches_of
from layersmith.cli.calls import call_arguments, called
from layersmith.cli.confine import layer_size_argument, limit_arguments, limit_layers, security_arguments
from layersmith.cli.outputs import check_platforms, output_arguments, outputs_of, write
from layersmith.cli.progress import display, progress_argument
from layersmith.cli.registries import registry_arguments
from layersmith.cli.upkeep import keep_within_limits
from layersmith.errors import Cancelled, CommandError, SandboxError

if TYPE_CHECKING:
    from layersmith.bases import StoreBases
    from layersmith.cli.unpacking import Unpacking
    from layersmith.linux.spawner import Spawner
    from layersmith.linux.userns import Isolation
    from layersmith.oci.descriptor import Descriptor
    from layersmith.progress import Progress
    from layersmith.solve import Isolate
    from layersmith.store import Store

GRACE_SECONDS = 0.8
"""From a signal to the end of the process, whatever is still going on."""

BUILD_EXAMPLES = """\
examples:
  layersmith build .                           build ./Buildfile (or Dockerfile, or Containerfile)
  layersmith build -t web:1.2 -f web.build .   another file, and a name for the image
  layersmith build --target test -o out .      write the files of one stage to ./out
  layersmith build -o type=oci,dest=web.tar .  write an OCI archive
  layersmith build --push -t reg.example.com/web:1.2 .   upload it, too
  layersmith build --call=outline .            which arguments, secrets and ssh agents it takes
  layersmith build --dry-run .                 what would run, what is cached, what would be pulled
  layersmith build --print-graph=svg . >g.svg  the steps and what they need, as a picture
"""


def build_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "context", nargs="?", default=".", metavar="BUILDFILE|DIR|URL|-", help="what to build (default: .)"
    )
    build_options(parser)
    call_arguments(parser)


def build_options(parser: argparse.ArgumentParser) -> None:
    """All that says how to build, but not what."""
    add = parser.add_argument
    add("-f", "--file", metavar="FILE", help="the Buildfile, if it is not the context's own; - is stdin")
    add("-t", "--tag", action="append", default=[], metavar="NAME[:TAG]", help="name the image (repeatable)")
    add("--target", metavar="STAGE", help="build this stage instead of the last one")
    add("--build-arg", action="append", default=[], metavar="NAME[=VALUE]", help="set an ARG (repeatable)")
    add(
        "--build-context",
        action="append",
        default=[],
        metavar="NAME=DIR|URL|IMAGE",
        help="one more place to copy from",
    )
    add("--label", action="append", default=[], metavar="NAME=VALUE", help="add a label to the image")
    add("--no-cache", action="store_true", help="run every step again")
    add(
        "--no-cache-filter",
        action="append",
        default=[],
        metavar="STAGE",
        help="run these stages' steps again",
    )
    add("--pull", action="store_true", help="ask the registry for newer base images")
    add(
        "--platform",
        action="append",
        default=[],
        metavar="OS/ARCH[,…]",
        help="what to build for, as one index if it is several (default: this machine)",
    )
    output_arguments(parser)
    registry_arguments(parser)
    squashing = parser.add_mutually_exclusive_group()
    squashing.add_argument("--squash", action="store_true", help="make all new layers one")
    squashing.add_argument("--squash-all", action="store_true", help="the base image's layers as well")
    add("-q", "--quiet", action="store_true", help="print nothing but the image's digest")
    progress_argument(parser)
    add("--iidfile", metavar="FILE", help="write the image's digest to FILE")
    add("--metadata-file", metavar="FILE", help="write what was built as JSON to FILE")
    add(
        "--secret", action="append", default=[], metavar="id=ID[,src=FILE|,env=NAME]", help="a secret for RUN"
    )
    add("--ssh", action="append", default=[], metavar="default|ID[=SOCKET]", help="an ssh agent for RUN")
    add("--network", default="default", help="default, none or host, for every RUN that does not say itself")
    add("--add-host", action="append", default=[], metavar="NAME:IP", help="a line for /etc/hosts")
    add("--dns", action="append", default=[], metavar="IP", help="a name server for RUN")
    add("--shm-size", default="0", metavar="BYTES", help="size of /dev/shm (64m)")
    add("--ulimit", action="append", default=[], metavar="NAME=SOFT[:HARD]", help="a limit for RUN")
    limit_arguments(parser)
    security_arguments(parser)
    layer_size_argument(parser)
    add(
        "--allow",
        action="append",
        default=[],
        metavar="ENTITLEMENT",
        help="security.insecure or network.host",
    )
    cache_arguments(parser)
    add("--dry-run", action="store_true", help="print what would run, hit and be pulled; do nothing")
    add(
        "--print-graph",
        choices=("dot", "mermaid", "svg", "json"),
        help="print the graph of the steps, with what would become of each; do nothing",
    )
    add("--explain", action="store_true", help="say of each step that runs, why")
    add(
        "--on-error",
        choices=("stop", "shell"),
        default="stop",
        help="shell: open one in what a failed RUN left (default: stop)",
    )
    add("--jobs", type=int, default=8, metavar="N", help="steps to run side by side (default: 8)")
    add("--keep-going", action="store_true", help="after a failure, finish what does not depend on it")
    add("--source-date-epoch", metavar="SECONDS", help="lower every newer time in the image to this one")
    add(
        "--locked",
        action="store_true",
        help="refuse names of images and URLs that the lock file does not have",
    )
    add("--compression", default="zstd", metavar="NAME[:LEVEL]", help="of new layers: zstd, gzip or none")


def build(args: argparse.Namespace) -> int:
    """Build an image."""
    status = called(args)
    if status is not None:
        return status
    if args.dry_run or args.print_graph:
        from layersmith.cli.preview import preview

        return preview(args)
    from layersmith.cli.recalling import question, recalled
    from layersmith.store import Store

    started = time.time()
    with ExitStack() as stack:
        isolate = isolation(stack)
        if os.geteuid() != 0:
            # Before the store is opened: files of other ids in it can only be handled from inside the namespace.
            isolate()
        _end_on_signals()
        shown = stack.enter_context(ExitStack())
        progress: Progress = shown.enter_context(display(args.progress, quiet=args.quiet))
        if args.explain:
            from layersmith.cli.explaining import Explaining

            progress = Explaining(progress)
        store = stack.enter_context(Store.open(_path(args.root)))
        limit_layers(args, store)
        asked = question(args)
        known = recalled(store, asked, args, progress, started) if asked else None
        if known is not None:
            _report(args, store, known)
            return 0
        with suppress(SandboxError):  # what needs no command needs no isolation either
            # Now, for every sandbox is a copy of the spawner, and that of this process: the smaller, the quicker.
            isolate()
        from layersmith.build import build as build_image
        from layersmith.cli.progress.moves import Moves
        from layersmith.cli.recalling import remembered
        from layersmith.cli.request import build_request
        from layersmith.cli.sources import fetch
        from layersmith.cli.unpacking import for_build

        progress = moves = Moves(progress)
        outputs = outputs_of(args)
        caches = caches_of(args)
        request, named = build_request(args, store)
        check_platforms(outputs, len(request.platforms))
        borrowed = stack.enter_context(caches.borrowed(store, progress))
        try:
            built = build_image(
                store,
                request,
                bases=bases_of(
                    args,
                    store,
                    named,
                    progress,
                    lazily=stack if borrowed else None,
                    unpacking=for_build(request.text, isolate, progress),
                ),
                isolate=isolate,
                fetch=fetch,
                progress=progress,
                borrowed=borrowed,
                inline_cache=caches.inline,
            )
        except CommandError as error:
            if args.on_error == "shell" and error.kept:
                from layersmith.cli.debug import shell_after

                shown.__exit__(type(error), error, error.__traceback__)
                shell_after(error, store, request, isolate)
            raise
        if asked:
            remembered(store, asked, request, built)
        written = write(args, store, built.descriptor, outputs, progress, epoch=request.settings.epoch)
        caches.lend(store, built, progress)
        moves.note(store, built.record)
        keep_within_limits(store, progress)
        _report(args, store, written)
    return 0


def isolation(stack: ExitStack) -> Isolate:
    """What isolates this process, once, and forks its spawner, which lives as long as ``stack``."""

    @cache
    def isolate() -> tuple[Isolation, Spawner]:
        from layersmith.linux.spawner import Spawner
        from layersmith.linux.userns import enter

        isolation = enter()
        return isolation, stack.enter_context(Spawner.start())

    return isolate


def _end_on_signals() -> None:
    """SIGTERM and SIGHUP end a build as Ctrl-C does: within a second, even if a thread can't be stopped.

    What such an end leaves in the store's tmp/ is swept at the next start.
    """
    import _thread
    import signal

    def leave() -> None:
        time.sleep(GRACE_SECONDS)
        os.write(sys.stderr.fileno(), b"layersmith: stopped\n")
        os._exit(Cancelled.exit_code)

    def stop(*_: object) -> None:
        # Not `threading`: the main thread may hold its locks, having been interrupted as it started a thread.
        _thread.start_new_thread(leave, ())
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


# Where images come from and go to


def bases_of(
    args: argparse.Namespace,
    store: Store,
    named: dict[str, str],
    progress: Progress,
    *,
    preview: Store | None = None,
    lazily: ExitStack | None = None,
    unpacking: Unpacking | None = None,
) -> StoreBases:
    """Where FROM finds images. ``preview``: a store of its own for what is fetched, and then no layers.

    ``lazily``: layers of base images are fetched when a step needs them, until this ends.
    """
    from layersmith.bases import StoreBases
    from layersmith.cli.sources import named_image, promising_puller, puller
    from layersmith.ops import ContextInput

    if lazily is not None:
        pull = promising_puller(args, store, progress, lazily)
    else:
        pull = puller(args, preview or store, progress, lazy=preview is not None, unpacking=unpacking)
    labels = (text.partition("=")[0].lower() for text in args.build_context)
    contexts: dict[str, object] = {label: ContextInput(label) for label in labels if label not in named}
    contexts |= {name: named_image(store, value, pull, preview) for name, value in named.items()}
    return StoreBases(store, pull, contexts, always_pull=args.pull, pulled=preview)  # type: ignore[arg-type]


def _report(args: argparse.Namespace, store: Store, descriptor: Descriptor) -> None:
    if args.iidfile:
        Path(args.iidfile).write_text(descriptor.digest)
    if args.metadata_file:
        text = json.dumps(_metadata(args, store, descriptor), indent=2)
        Path(args.metadata_file).write_text(text + "\n")
    if args.quiet:
        print(descriptor.digest)


def _metadata(args: argparse.Namespace, store: Store, descriptor: Descriptor) -> dict[str, object]:
    """As docker buildx writes it; the config's digest is there unless there are several images."""
    from layersmith.oci import mediatype
    from layersmith.oci.manifest import Manifest
    from layersmith.oci.reference import parse_reference

    metadata: dict[str, object] = {
        "containerimage.descriptor": descriptor.to_json(),
        "containerimage.digest": descriptor.digest,
    }
    if mediatype.is_manifest(descriptor.media_type):
        config = Manifest.from_json(store.blobs.read(descriptor)).config
        metadata["containerimage.config.digest"] = config.digest
    if args.tag:
        names = (parse_reference(name) for name in args.tag)
        metadata["image.name"] = ",".join(str(name.with_tag(name.tag or "latest")) for name in names)
    return metadata
