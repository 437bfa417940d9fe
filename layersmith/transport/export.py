"""EXPORT: an image in the store to wherever an `Output` says. In: a descriptor. Out: files, names, or a registry's image."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from layersmith.dataclass import replace
from layersmith.errors import UsageError
from layersmith.image import Image, select
from layersmith.layer.entry import DIR, LNK, Entry, Item
from layersmith.oci import mediatype
from layersmith.oci.descriptor import ATTESTATION, Descriptor
from layersmith.oci.digest import encoded
from layersmith.oci.document import canonical
from layersmith.oci.manifest import Index, parse_manifest
from layersmith.oci.platform import Platform
from layersmith.store import Store
from layersmith.transport.archive import save_docker_archive
from layersmith.transport.convert import Conversion
from layersmith.transport.directory import write_directory
from layersmith.transport.flatten import flatten
from layersmith.transport.layout import entries_in, save_layout
from layersmith.transport.output import Output
from layersmith.transport.sinks import DirectorySink, Sink, TarSink, output_file

if TYPE_CHECKING:
    from layersmith.transport.registry import Registry


def save(
    store: Store,
    descriptor: Descriptor,
    output: Output,
    *,
    names: Sequence[str] = (),
    platform: Platform | None = None,
    epoch: int | None = None,
    split: bool = False,
    stdout: BinaryIO | None = None,
) -> Descriptor:
    """Write the image at ``descriptor`` as ``output`` says; the descriptor of what was written.

    That is another one where ``output`` asks for other media types, annotations, times or compression. ``names`` are
    used where ``output`` has none. ``platform`` picks from an index for the types that hold one image only; without
    it, and with ``split``, ``tar`` and ``local`` get a directory for each platform. ``epoch`` (seconds) is what
    rewrite-timestamp lowers newer times to. ``image`` and ``registry`` write nothing but the names in the store; `push`
    does the rest.

    Raises:
        UsageError: the output can't be what it is to be (a terminal, times without an epoch).
        TransportError: it can't be written.
        NotFoundError, DigestMismatchError: a blob is missing or damaged.
    """
    if output.rewrite_timestamp and epoch is None:
        raise UsageError(
            "rewrite-timestamp=true: no time to lower newer ones to",
            hint="set SOURCE_DATE_EPOCH or --source-date-epoch",
        )
    names = output.names or tuple(names)
    if output.type in ("layers", "docker"):
        descriptor = select(store, descriptor, platform)
    if output.holds_image:
        descriptor = Conversion(store, output, epoch)(descriptor)
    match output.type:
        case "image" | "registry":
            for name in names if output.store else ():
                store.refs.set(name, descriptor)
            if output.store and not names:
                store.refs.keep(descriptor)
            if output.unpack:
                _unpack(store, descriptor, platform)
        case "oci" if output.tar is False:
            path = _path(output)
            save_layout(store, descriptor, DirectorySink(path), names, beside=entries_in(path))
        case "local":
            for directory, items in _trees(store, descriptor, output, platform, split=split):
                write_directory(_path(output) / directory, items)
        case "layers" if output.dest not in (None, "-"):
            save_layers(store, descriptor, DirectorySink(_path(output)))
        case "oci" | "docker" | "layers":
            with _tar(output, stdout) as sink:
                if output.type == "oci":
                    save_layout(store, descriptor, sink, names)
                elif output.type == "docker":
                    save_docker_archive(store, descriptor, sink, names)
                else:
                    save_layers(store, descriptor, sink)
        case "tar":
            with _tar(output, stdout) as sink:
                for directory, items in _trees(store, descriptor, output, platform, split=split):
                    for entry, content in _below(directory.encode(), items):
                        sink.entry(entry, content)
    return descriptor


def push(
    registry: Registry, store: Store, descriptor: Descriptor, output: Output, *, names: Sequence[str] = ()
) -> None:
    """Upload what `save` returned for ``output`` under its names, else ``names``; with push-by-digest without a tag.

    Raises:
        UsageError: there is no name.
        NotFoundError, TransportError: as `Registry.push`.
    """
    names = output.names or tuple(names)
    if not names:
        raise UsageError(
            "there is no name to push the image under", hint="add -t NAME, or name=NAME to the output"
        )
    for name in names:
        reference = registry.config.reference(name)
        if output.push_by_digest:
            reference = replace(reference, tag=None, digest=descriptor.digest)
        registry.push(store, descriptor, reference)


@contextmanager
def _tar(output: Output, stdout: BinaryIO | None) -> Iterator[TarSink]:
    with output_file(_destination(output, stdout)) as file:
        sink = TarSink(file)
        yield sink
        sink.close()


def _path(output: Output) -> Path:
    if output.dest in (None, "-"):
        raise UsageError(f"type={output.type} can't go to standard output", hint="give it dest=DIRECTORY")
    return Path(output.dest or "")


def _destination(output: Output, stdout: BinaryIO | None) -> Path | BinaryIO:
    if output.dest not in (None, "-"):
        return Path(output.dest or "")
    stream = stdout or sys.stdout.buffer
    if stream.isatty():
        raise UsageError(
            f"-o type={output.type} would write to the terminal", hint="redirect it, or add dest=FILE"
        )
    return stream


# Files


def _trees(
    store: Store, descriptor: Descriptor, output: Output, platform: Platform | None, *, split: bool
) -> Iterator[tuple[str, Iterator[Item]]]:
    """The files of the image, with a directory to put them into; or of each image of the index in its own."""
    wanted = output.platform_split
    found: list[Descriptor] = []
    if platform is None and mediatype.is_index(descriptor.media_type):
        found = [
            entry for entry in _index(store, descriptor).manifests if entry.annotation(ATTESTATION) is None
        ]
        found = [entry for entry in found if store.blobs.has(entry.digest)]
        wanted = (split and len(found) > 1) if wanted is None else wanted
    for each in found if wanted and found else [select(store, descriptor, platform)]:
        image = Image.read(store, each)
        directory = str(image.config.platform).replace("/", "_") if wanted else ""
        yield directory, flatten(store, image.layers)


def _below(directory: bytes, items: Iterator[Item]) -> Iterator[Item]:
    if not directory:
        yield from items
        return
    yield Entry(directory, DIR, 0o755), None
    for entry, content in items:
        if entry.path:
            link = directory + b"/" + entry.link if entry.kind == LNK else entry.link
            yield entry._replace(path=directory + b"/" + entry.path, link=link), content


def save_layers(store: Store, descriptor: Descriptor, sink: Sink) -> None:
    """Every layer's tar as it is in the store, and ``layers.json``, which says what each is and what made it."""
    image = Image.read(store, descriptor)
    made = [entry for entry in image.config.history if not entry.empty_layer]
    listed = []
    for number, layer in enumerate(image.layers):
        suffix = {"none": "", "gzip": ".gz", "zstd": ".zst"}[
            mediatype.compression(layer.descriptor.media_type) or "none"
        ]
        name = f"{number:03}-{encoded(layer.diff_id)[:12]}.tar{suffix}"
        history = made[number] if number < len(made) else None
        sink.blob(name, store, layer.descriptor)
        listed.append(
            {
                "file": name,
                **layer.descriptor.bare().to_json(),
                "diffID": layer.diff_id,
                "created": None if history is None else history.created,
                "createdBy": None if history is None else history.created_by,
            }
        )
    sink.data("layers.json", canonical(listed) + b"\n")


def _unpack(store: Store, descriptor: Descriptor, platform: Platform | None) -> None:
    from layersmith.layer.unpack import lowerdirs

    lowerdirs(store, Image.read(store, descriptor, platform).layers)


def _index(store: Store, descriptor: Descriptor) -> Index:
    document = parse_manifest(store.blobs.read(descriptor), descriptor.media_type)
    assert isinstance(document, Index)
    return document
