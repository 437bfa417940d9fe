"""All that is known of an image as one JSON value, in the shape that `docker inspect` made known. In: a name.

On top of docker's members: ``Descriptor``, ``Manifest`` (the document itself), ``Layers`` and ``History``.
"""

from __future__ import annotations

import json
from typing import Any

from layersmith.anatomy.images import find, names_of
from layersmith.anatomy.layers import history
from layersmith.image import Image
from layersmith.oci.config import ImageConfig
from layersmith.oci.descriptor import Descriptor
from layersmith.oci.platform import Platform
from layersmith.store import Store

_TEXTS = ("User", "WorkingDir", "StopSignal")
_LISTS = ("Env", "Cmd", "Entrypoint", "Shell", "OnBuild")
_MAPS = ("Labels", "ExposedPorts", "Volumes")


def inspect(store: Store, name: str, platform: Platform | None = None) -> dict[str, Any]:
    """The image ``name`` (as for `find`) as JSON.

    Members that docker knows are there even if the image leaves them out: ``null`` for lists and maps, else ``""``.
    ``Id`` is the digest that names the image in the store, ``Manifest`` what that leads to on the platform.

    Raises what `find` raises.
    """
    listed = store.refs.resolve(name)
    descriptor, image = find(store, name, platform)
    names = names_of(store, listed)
    manifest = json.loads(store.blobs.read(descriptor))
    return {
        "Id": listed.digest,
        "RepoTags": list(names),
        "RepoDigests": list(dict.fromkeys(f"{each.rpartition(':')[0]}@{listed.digest}" for each in names)),
        "Comment": image.config.history[-1].comment if image.config.history else "",
        "Created": image.config.created or "",
        "Author": image.config.author,
        "Architecture": image.config.platform.architecture,
        "Variant": image.config.platform.variant,
        "Os": image.config.platform.os,
        "Size": _size(manifest, descriptor),
        "Config": _config(image.config),
        "RootFS": {"Type": "layers", "Layers": list(image.config.diff_ids)},
        "Descriptor": descriptor.to_json(),
        "Manifest": manifest,
        "Layers": _layers(store, image),
        "History": [line.history.to_json() for line in history(image)],
    }


def _size(manifest: dict[str, Any], descriptor: Descriptor) -> int:
    parts = {part["digest"]: int(part["size"]) for part in (manifest["config"], *manifest["layers"])}
    return descriptor.size + sum(parts.values())


def _config(config: ImageConfig) -> dict[str, Any]:
    empty: dict[str, Any] = (
        dict.fromkeys(_TEXTS, "") | dict.fromkeys((*_LISTS, *_MAPS)) | {"Healthcheck": None}
    )
    given: dict[str, Any] = json.loads(config.to_json())["config"]
    return empty | given


def _layers(store: Store, image: Image) -> list[dict[str, Any]]:
    return [
        {
            "Digest": line.layer.descriptor.digest,
            "DiffID": line.layer.diff_id,
            "MediaType": line.layer.descriptor.media_type,
            "Size": line.layer.descriptor.size,
            "Created": line.history.created or "",
            "CreatedBy": line.history.created_by,
            "Blob": str(store.blobs.path(line.layer.descriptor.digest)),
        }
        for line in history(image)
        if line.layer is not None
    ]
