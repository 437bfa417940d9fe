"""A container from its image to its end. In: a store, a container, what runs it. Out: its `Status`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from layersmith.containers.attach import Attachment
from layersmith.containers.container import Container, Containers
from layersmith.containers.sandboxes import root, sandbox
from layersmith.containers.status import Status
from layersmith.containers.supervise import supervise
from layersmith.dataclass import dataclass
from layersmith.image import Image
from layersmith.layer.unpack import lowerdirs, merged_root, prepare_upper
from layersmith.linux import cgroups
from layersmith.linux.fuse import Overlays
from layersmith.linux.network import Connection
from layersmith.linux.runtime import Runtime
from layersmith.store.files import remove_tree, storing

if TYPE_CHECKING:
    from layersmith.linux.userns import Isolation
    from layersmith.store import Store


@dataclass(frozen=True, slots=True)
class Host:
    """What containers run on: the store, what runs sandboxes, how this process is isolated, what the network ``default``
    is, and who hears of what a person should know."""

    store: Store
    runtime: Runtime
    isolation: Isolation
    connect: Callable[[], Connection]
    notify: Callable[[str], None] = lambda _: None

    @property
    def containers(self) -> Containers:
        return Containers(self.store.root)


def run(host: Host, container: Container, attachment: Attachment) -> Status:
    """Run ``container``, whose lock the caller holds, to its end; with ``auto_remove`` it is then gone.

    Raises SandboxError, StepError: it could not be started; NotFoundError, DigestMismatchError: its image is damaged.
    """
    with ExitStack() as stack:
        if container.config.auto_remove:
            stack.callback(host.containers.remove, container, host.store.trash)
        never_run = not any(container.work.iterdir())
        renew_work(container)
        image = Image.read(host.store, container.config.manifest)
        directories = lowers(host.store, image, host.isolation)
        if never_run:
            prepare_upper(container.upper, merged_root(host.store, image.layers))
        cgroup = stack.enter_context(cgroups.create(container.config.limits))
        connection = _connection(host, container.config.network)
        files = stack.enter_context(
            Overlays().mountable(root(container, directories, host.isolation), container.directory / "merged")
        )
        described = sandbox(container, files, connection=connection, cgroups=cgroup.directories)
        return supervise(container, host.runtime, described, attachment, diagnose=cgroup.out_of_memory)


def _connection(host: Host, network: str) -> Connection:
    if network != "default":
        return Connection(network)
    connection = host.connect()
    if connection.notice:
        host.notify(connection.notice)
    return connection


def lowers(store: Store, image: Image, isolation: Isolation) -> tuple[Path, ...]:
    """The directories of the image's layers, topmost first."""
    return lowerdirs(
        store,
        image.layers,
        xattr_namespace=isolation.xattr_namespace,
        ignore_chown_errors=isolation.single_id,
        images=isolation.mounts_images,
    )


def renew_work(container: Container) -> None:
    """Make its overlay mountable again: overlayfs refuses the work directory of a volatile mount a second time."""
    work = container.work
    with storing(work):
        if any(work.iterdir()):
            aside = container.directory / "dead-work"
            work.rename(aside)
            remove_tree(aside)
            work.mkdir(mode=0o700)
