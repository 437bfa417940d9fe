"""Media types of image-spec 1.1 and Docker's schema 2, and what can be asked of one."""

from __future__ import annotations

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = OCI_LAYER + "+gzip"
OCI_LAYER_ZSTD = OCI_LAYER + "+zstd"
OCI_FOREIGN_LAYER = "application/vnd.oci.image.layer.nondistributable.v1.tar"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_LAYER_ZSTD = "application/vnd.docker.image.rootfs.diff.tar.zstd"
DOCKER_FOREIGN_LAYER = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"

MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEXES = frozenset({OCI_INDEX, DOCKER_INDEX})
CONFIGS = frozenset({OCI_CONFIG, DOCKER_CONFIG})

_COMPRESSIONS = {
    OCI_LAYER: "none",
    OCI_LAYER_GZIP: "gzip",
    OCI_LAYER_ZSTD: "zstd",
    OCI_FOREIGN_LAYER: "none",
    OCI_FOREIGN_LAYER + "+gzip": "gzip",
    OCI_FOREIGN_LAYER + "+zstd": "zstd",
    DOCKER_LAYER: "none",
    DOCKER_LAYER_GZIP: "gzip",
    DOCKER_LAYER_ZSTD: "zstd",
    DOCKER_FOREIGN_LAYER: "gzip",
}

ACCEPT_MANIFEST = (OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST)
"""What to ask a registry for, best first."""


def is_manifest(media_type: str) -> bool:
    """An image manifest, OCI or Docker schema 2."""
    return media_type in MANIFESTS


def is_index(media_type: str) -> bool:
    """An image index, or Docker's manifest list."""
    return media_type in INDEXES


def is_config(media_type: str) -> bool:
    """An image config."""
    return media_type in CONFIGS


def is_layer(media_type: str) -> bool:
    """A file-system layer that can be read, foreign ones included."""
    return media_type in _COMPRESSIONS


def is_foreign(media_type: str) -> bool:
    """A layer that its maker did not want to see redistributed; may lie at ``urls`` only."""
    return media_type.startswith(OCI_FOREIGN_LAYER) or media_type == DOCKER_FOREIGN_LAYER


def is_docker(media_type: str) -> bool:
    """One of Docker's own types."""
    return media_type.startswith("application/vnd.docker.")


def compression(media_type: str) -> str | None:
    """``none``, ``gzip`` or ``zstd`` for a layer's media type, None for anything else."""
    return _COMPRESSIONS.get(media_type)


def layer_type(compression: str, *, docker: bool = False) -> str:
    """The media type of a layer compressed by ``none``, ``gzip`` or ``zstd``."""
    if docker:
        return {"none": DOCKER_LAYER, "gzip": DOCKER_LAYER_GZIP, "zstd": DOCKER_LAYER_ZSTD}[compression]
    return {"none": OCI_LAYER, "gzip": OCI_LAYER_GZIP, "zstd": OCI_LAYER_ZSTD}[compression]
