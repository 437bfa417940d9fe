"""Where images go: ``-o``, ``--push``, ``--load``, ``--annotation``. In: parsed flags, an image. Out: what they ask for."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from layersmith.dataclass import replace
from layersmith.errors import UsageError

if TYPE_CHECKING:
    from layersmith.oci.descriptor import Descriptor
    from layersmith.progress import Progress
    from layersmith.store import Store
    from layersmith.transport import Output


def output_arguments(parser: ArgumentParser) -> None:
    """The flags of `outputs_of`."""
    add = parser.add_argument
    add(
        "-o",
        "--output",
        action="append",
        default=[],
        metavar="DIR|type=TYPE[,KEY=VALUE…]",
        help="write the result: image, registry, oci, docker, tar, local, layers or cacheonly (repeatable)",
    )
    add("--push", action="store_true", help="upload the image under its names: -o type=registry")
    add("--load", action="store_true", help="keep the image in the store, as always happens: -o type=image")
    add(
        "--annotation",
        action="append",
        default=[],
        metavar="[LEVEL:]KEY=VALUE",
        help="annotate the manifest, or index, manifest-descriptor, index-descriptor (repeatable)",
    )


def outputs_of(args: Namespace) -> tuple[Output, ...]:
    """What the flags ask for. Raises UsageError."""
    if not (args.output or args.push or args.load or args.annotation):
        return ()
    from layersmith.transport import Output, parse_output
    from layersmith.transport.output import parse_annotation

    found = [parse_output(text) for text in args.output]
    if sum(output.to_stdout for output in found) > 1:
        raise UsageError("two outputs can't both go to standard output", hint="give one of them dest=FILE")
    if args.push:
        images = [output for output in found if output.type in ("image", "registry")]
        found = [replace(output, push=True) if output in images else output for output in found]
        found += [] if images else [Output("registry", push=True)]
    annotations = tuple(each for text in args.annotation for each in parse_annotation(text))
    if (args.load or annotations) and not any(output.holds_image for output in found):
        found.append(Output("image"))
    for output in found:
        if output.push and not (output.names or args.tag):
            raise UsageError("there is no name to push the image under", hint="add -t NAME")
    return tuple(
        replace(output, annotations=(*output.annotations, *annotations)) if output.holds_image else output
        for output in found
    )


def check_platforms(outputs: Sequence[Output], count: int) -> None:
    """Before the work is done: an archive of ``docker save`` holds one platform. Raises UsageError."""
    if count > 1 and any(output.type == "docker" for output in outputs):
        raise UsageError(
            f"type=docker holds one platform, not {count}",
            hint="type=oci holds all of them; or build for one --platform",
        )


def write(
    args: Namespace,
    store: Store,
    descriptor: Descriptor,
    outputs: Sequence[Output],
    progress: Progress,
    *,
    epoch: int | None = None,
) -> Descriptor:
    """Write the image to all ``outputs``; what it is called by now, if one gave it another form.

    Raises what `transport.save` and `transport.push` raise.
    """
    from layersmith.transport import push, save

    names = tuple(args.tag)
    result = descriptor
    for output in outputs:
        written = save(store, descriptor, output, names=names, epoch=epoch, split=True)
        if output.holds_image:
            result = written
        if output.push:
            from layersmith.cli.registries import open_registry

            insecure = (output.names or names) if output.insecure else ()
            with open_registry(args, progress, insecure=insecure) as registry:
                push(registry, store, written, output, names=names)
    return result
