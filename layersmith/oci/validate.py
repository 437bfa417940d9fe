"""`validate_image`: does an image keep image-spec's promises? Product code (``fsck``, ``inspect``) and test oracle."""

from __future__ import annotations

import re
from collections.abc import Callable

from layersmith.errors import LayersmithError
from layersmith.oci import mediatype
from layersmith.oci.config import ImageConfig
from layersmith.oci.descriptor import ATTESTATION, Descriptor
from layersmith.oci.digest import digest_of
from layersmith.oci.manifest import Index, Manifest, parse_manifest

_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}")
_PORT = re.compile(r"\d+(/(tcp|udp|sctp))?")


def validate_image(read: Callable[[Descriptor], bytes], descriptor: Descriptor) -> list[str]:
    """Everything wrong with the image (or index of images) at ``descriptor``; an empty list if nothing is.

    ``read`` returns the bytes of a manifest, index or config and may raise `LayersmithError`; layers are not read.
    """
    problems: list[str] = []
    _validate(read, descriptor, problems, depth=0)
    return problems


def _validate(
    read: Callable[[Descriptor], bytes], descriptor: Descriptor, problems: list[str], *, depth: int
) -> None:
    where = descriptor.digest[:19]
    try:
        document = parse_manifest(_checked(read, descriptor, problems), descriptor.media_type)
        if isinstance(document, Index):
            if depth > 3:
                problems.append(f"{where}: indexes nested more than 3 deep")
                return
            for manifest in document.manifests:
                _check_descriptor(manifest, problems)
                if manifest.annotation(ATTESTATION) is None:
                    _validate(read, manifest, problems, depth=depth + 1)
            return
        _check_manifest(document, where, problems)
        if mediatype.is_config(document.config.media_type):
            data = _checked(read, document.config, problems)
            _check_config(ImageConfig.from_json(data), document, where, problems)
    except LayersmithError as error:
        problems.append(f"{where}: {error.message}")


def _checked(read: Callable[[Descriptor], bytes], descriptor: Descriptor, problems: list[str]) -> bytes:
    data = read(descriptor)
    if len(data) != descriptor.size:
        problems.append(f"{descriptor.digest[:19]}: {len(data)} bytes, but described as {descriptor.size}")
    if digest_of(data) != descriptor.digest:
        problems.append(f"{descriptor.digest[:19]}: its bytes have another digest")
    return data


def _check_descriptor(descriptor: Descriptor, problems: list[str]) -> None:
    if not _MEDIA_TYPE.fullmatch(descriptor.media_type):
        problems.append(f"{descriptor.digest[:19]}: {descriptor.media_type!r} is not a media type")


def _check_manifest(manifest: Manifest, where: str, problems: list[str]) -> None:
    _check_descriptor(manifest.config, problems)
    for layer in manifest.layers:
        _check_descriptor(layer, problems)
        if mediatype.is_config(manifest.config.media_type) and not mediatype.is_layer(layer.media_type):
            problems.append(f"{where}: unknown layer media type {layer.media_type!r}")
    docker = mediatype.is_docker(manifest.media_type)
    for part in (manifest.config, *manifest.layers):
        if part.media_type.startswith("application/vnd.oci.") and docker:
            problems.append(f"{where}: a Docker manifest with a part of type {part.media_type}")


def _check_config(config: ImageConfig, manifest: Manifest, where: str, problems: list[str]) -> None:
    if not config.platform.os or not config.platform.architecture:
        problems.append(f"{where}: the config names no os or no architecture")
    if len(config.diff_ids) != len(manifest.layers):
        problems.append(f"{where}: {len(manifest.layers)} layers, but {len(config.diff_ids)} DiffIDs")
    filled = sum(not entry.empty_layer for entry in config.history)
    if config.history and filled != len(config.diff_ids):
        problems.append(
            f"{where}: history tells of {filled} layers, but there are {len(config.diff_ids)} DiffIDs"
        )
    for time in (config.created, *(entry.created for entry in config.history)):
        if time is not None and not _TIME.fullmatch(time):
            problems.append(f"{where}: {time!r} is not an RFC 3339 time")
    for variable in config.env:
        if variable.find("=") < 1:
            problems.append(f"{where}: environment entry {variable!r} is not NAME=value")
    for port in config.exposed_ports:
        if not _PORT.fullmatch(port):
            problems.append(f"{where}: {port!r} is not a port")
