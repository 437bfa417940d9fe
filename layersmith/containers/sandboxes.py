"""A container's config, and the directories of its image's layers, to the `Sandbox` that runs it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from layersmith.containers.config import ContainerConfig
from layersmith.containers.container import Container
from layersmith.dataclass import replace
from layersmith.linux import hostfiles
from layersmith.linux.network import Connection
from layersmith.linux.overlay import Overlay
from layersmith.linux.sandbox import Sandbox
from layersmith.oci.process import DEFAULT_PATH, Process

if TYPE_CHECKING:
    from layersmith.linux.userns import Isolation


def sandbox(
    container: Container,
    files: Overlay,
    *,
    connection: Connection = Connection("host"),  # noqa: B008  (frozen)
    cgroups: tuple[str, ...] = (),
) -> Sandbox:
    """What runs ``container`` on its ``files`` (see `root`), connected to the world by ``connection``.

    Raises UsageError for an ``--add-host`` that is none.
    """
    config = container.config
    private = connection.network not in ("host", "none")
    return Sandbox(
        files,
        process(config),
        mounts=config.mounts,
        hostname=config.hostname,
        network=connection.network,
        capabilities=frozenset(config.capabilities),
        insecure=config.insecure,
        seccomp=config.seccomp,
        no_new_privileges=config.no_new_privileges,
        readonly_rootfs=config.readonly,
        resolv_conf=hostfiles.resolv_conf(config.dns or connection.nameservers, private_network=private),
        hosts=hostfiles.hosts(config.hostname, config.add_hosts),
        etc_hostname=f"{config.hostname}\n".encode(),
        shm_size=config.shm_size,
        rlimits=config.rlimits,
        cgroups=cgroups,
        init=config.init,
        tty=config.tty,
        create_cwd=True,
    )


def process(config: ContainerConfig, *, tty: bool | None = None) -> Process:
    """The container's process, with the variables that Docker adds to those it was given."""
    added = {"PATH": DEFAULT_PATH, "HOSTNAME": config.hostname}
    if config.tty if tty is None else tty:
        added["TERM"] = "xterm"
    return replace(config.process, env=tuple((added | dict(config.process.env)).items()))


def root(container: Container, lowers: Sequence[Path], isolation: Isolation) -> Overlay:
    """The container's files: its own changes on its image's layers."""
    return Overlay(
        tuple(os.fspath(path) for path in lowers),
        os.fspath(container.upper),
        os.fspath(container.work),
        userxattr=isolation.userxattr,
    )
