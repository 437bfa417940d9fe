"""``-o``: where an image goes, and how. In: the option's text, an image in the store. Out: files.

The types and attributes are those of docker buildx, and ``layers``: every layer's tar, and an index of them.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from layersmith.errors import UsageError
from layersmith.image import Image, select
from layersmith.layer.compress import Compression, parse_compression
from layersmith.oci import mediatype
from layersmith.oci.descriptor import ATTESTATION, Descriptor
from layersmith.oci.digest import encoded
from layersmith.oci.document import canonical
from layersmith.oci.manifest import Index, parse_manifest
from layersmith.oci.platform import Platform
from layersmith.store import Store
from layersmith.transport.archive import save_docker_archive
from layersmith.transport.convert import annotated, recompress
from layersmith.transport.directory import write_directory
from layersmith.transport.flatten import flatten
from layersmith.transport.layout import entries_in, save_layout
from layersmith.transport.sinks import DirectorySink, Sink, TarSink, output_file

TYPES = ("oci", "docker", "tar", "local", "layers", "image", "registry")
_ATTRIBUTES = frozenset(
    ["dest", "tar", "name", "compression", "compression-level", "force-compression", "oci-mediatypes", "push"]
)
_ANNOTATIONS = ("annotation.", "annotation-manifest.")


@dataclass(frozen=True, slots=True)
class Output:
    """A parsed ``-o``. ``dest`` None or ``-`` is standard output; ``names`` are from ``name=``.

    ``tar``: whether ``oci`` makes one file rather than a directory; None is the default of the type.
    ``compression`` None leaves layers as they are.
    """

    type: str
    dest: str | None = None
    tar: bool | None = None
    names: tuple[str, ...] = ()
    compression: Compression | None = None
    force_compression: bool = False
    oci_media_types: bool = True
    annotations: tuple[tuple[str, str], ...] = ()
    push: bool = False


def parse_output(text: str) -> Output:
    """``type=oci,dest=image.tar,…``; a word alone is a directory (``type=local``), ``-`` a tar on standard output.

    Raises:
        UsageError: an unknown type, an unknown attribute, or a value that makes no sense.
    """
    fields = next(iter(csv.reader([text])), [])
    if len(fields) == 1 and "=" not in fields[0]:
        return Output("tar", "-") if fields[0] == "-" else Output("local", fields[0])
    values: dict[str, str] = {}
    annotations = []
    for field in fields:
        key, equals, value = field.partition("=")
        key = (
            key.strip().lower().replace("[", ".", 1).removesuffix("]")
            if key.startswith("annotation")
            else key.strip()
        )
        if not equals:
            raise UsageError(f"-o {text!r}: {field!r} is not key=value")
        prefix = next((prefix for prefix in _ANNOTATIONS if key.startswith(prefix)), None)
        if prefix is not None:
            annotations.append((key.removeprefix(prefix), value))
        elif key == "type" or key in _ATTRIBUTES:
            values[key] = value
        else:
            raise UsageError(
                f"-o {text!r}: unknown attribute {key!r}", hint=f"known: {', '.join(sorted(_ATTRIBUTES))}"
            )
    kind = values.get("type", "")
    if kind not in TYPES:
        raise UsageError(f"-o {text!r}: unknown type {kind!r}", hint=f"one of {', '.join(TYPES)}")
    output = Output(
        type=kind,
        dest=values.get("dest"),
        tar=_boolean(text, values["tar"]) if "tar" in values else None,
        names=tuple(name for name in values.get("name", "").split(",") if name),
        compression=_compression(values),
        force_compression=_boolean(text, values.get("force-compression", "false")),
        oci_media_types=_boolean(text, values.get("oci-mediatypes", "true")),
        annotations=tuple(sorted(annotations)),
        push=_boolean(text, values.get("push", "false")) or kind == "registry",
    )
    if output.dest is None and (kind in ("local", "layers") or (kind == "oci" and output.tar is False)):
        raise UsageError(f"-o {text!r}: it has no dest", hint=f"write type={kind},dest=DIRECTORY")
    return output


def _boolean(text: str, value: str) -> bool:
    if value.lower() not in ("true", "false", "1", "0"):
        raise UsageError(f"-o {text!r}: {value!r} is neither true nor false")
    return value.lower() in ("true", "1")


def _compression(values: dict[str, str]) -> Compression | None:
    if "compression" not in values:
        return None
    name = {"uncompressed": "none"}.get(values["compression"], values["compression"])
    level = values.get("compression-level")
    return parse_compression(name if level is None else f"{name}:{level}")


def save(
    store: Store,
    descriptor: Descriptor,
    output: Output,
    *,
    names: Sequence[str] = (),
    platform: Platform | None = None,
    stdout: BinaryIO | None = None,
) -> Descriptor:
    """Write the image at ``descriptor`` as ``output`` says; the descriptor of what was written.

    That is another one where ``output`` asks for other media types, annotations or compression. ``names`` are used
    where ``output`` has none. ``platform`` picks from an index for the types that hold one image only. ``image`` writes
    nothing but the names in the store; ``registry`` is not done here.

    Raises:
        UsageError: the output can't be what it is to be (a registry, a terminal).
        TransportError: it can't be written.
        NotFoundError, DigestMismatchError: a blob is missing or damaged.
    """
    names = output.names or tuple(names)
    if output.type in ("tar", "local", "layers", "docker"):
        descriptor = select(store, descriptor, platform)
    if output.type in ("oci", "docker", "image"):
        descriptor = _converted(store, descriptor, output)
    match output.type:
        case "image":
            for name in names:
                store.refs.set(name, descriptor)
        case "oci" if output.tar is False:
            path = _path(output)
            save_layout(store, descriptor, DirectorySink(path), names, beside=entries_in(path))
        case "local":
            write_directory(_path(output), flatten(store, Image.read(store, descriptor).layers))
        case "layers" if output.dest not in (None, "-"):
            save_layers(store, descriptor, DirectorySink(_path(output)))
        case "oci" | "docker" | "tar" | "layers":
            with output_file(_destination(output, stdout)) as file:
                _save_tar(store, descriptor, output, names, file)
        case _:
            raise UsageError(f"type={output.type} is not a file", hint="`layersmith push` uploads images")
    return descriptor


def _save_tar(
    store: Store, descriptor: Descriptor, output: Output, names: Sequence[str], file: BinaryIO
) -> None:
    sink = TarSink(file)
    if output.type == "oci":
        save_layout(store, descriptor, sink, names)
    elif output.type == "docker":
        save_docker_archive(store, descriptor, sink, names)
    elif output.type == "layers":
        save_layers(store, descriptor, sink)
    else:
        for entry, content in flatten(store, Image.read(store, descriptor).layers):
            sink.entry(entry, content)
    sink.close()


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


def _converted(store: Store, descriptor: Descriptor, output: Output) -> Descriptor:
    """The image, or each image of the index, in the form that ``output`` asks for."""
    if mediatype.is_index(descriptor.media_type):
        document = parse_manifest(store.blobs.read(descriptor), descriptor.media_type)
        assert isinstance(document, Index)
        converted = tuple(_converted_child(store, child, output) for child in document.manifests)
        if converted == document.manifests:
            return descriptor
        data = replace(document, manifests=converted).to_json()
        return Descriptor(descriptor.media_type, store.blobs.put(data), len(data))
    compression = output.compression
    if compression is None and output.type == "docker":
        # `docker load` before version 23 knows no zstd.
        compression = Compression("gzip") if _has_zstd(store, descriptor) else None
    docker = not output.oci_media_types
    if compression is None and not docker and not output.annotations:
        return descriptor
    image = Image.read(store, descriptor)
    if compression is not None:
        image = recompress(store, image, compression, force=output.force_compression)
    return annotated(image, dict(output.annotations)).write(store, docker=docker)


def _converted_child(store: Store, child: Descriptor, output: Output) -> Descriptor:
    if child.annotation(ATTESTATION) or not store.blobs.has(child.digest):
        return child
    done = _converted(store, child, output)
    return replace(child, media_type=done.media_type, digest=done.digest, size=done.size)


def _has_zstd(store: Store, descriptor: Descriptor) -> bool:
    layers = Image.read(store, descriptor).layers
    return any(mediatype.compression(layer.descriptor.media_type) == "zstd" for layer in layers)
