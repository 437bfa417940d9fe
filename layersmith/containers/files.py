"""A container's files from outside, as a descriptor of its root. In: a container, running or at rest. Out: the root."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from layersmith.containers.container import Container
from layersmith.containers.control import command_pid
from layersmith.containers.lifecycle import lowers, renew_work
from layersmith.containers.sandboxes import root
from layersmith.containers.status import RUNNING
from layersmith.errors import SandboxError
from layersmith.image import Image
from layersmith.linux.overlay import overlay
from layersmith.linux.userns import Isolation, enter, join

if TYPE_CHECKING:
    from layersmith.store import Store


def isolate(container: Container) -> Isolation:
    """Stand where the container's files can be reached: with its supervisor, or in a mount namespace of one's own.

    Before any thread, and before the store is opened. Raises SandboxError.
    """
    status = container.status()
    return join(status.supervisor) if status.state == RUNNING else enter()


@contextlib.contextmanager
def opened(store: Store, container: Container, isolation: Isolation) -> Iterator[int]:
    """The container's root directory for the block: an O_PATH descriptor, to be used with `linux.rooted` only, for
    everything in there is the container's own, its symlinks too.

    Running: what it sees itself, its mounts included. At rest: its files, and nobody can start it meanwhile. Raises
    SandboxError, ConflictError.
    """
    from layersmith.containers.container import Containers

    status = container.status()
    with contextlib.ExitStack() as stack:
        if status.state == RUNNING:
            path = f"/proc/{command_pid(container, status)}/root"
        else:
            stack.enter_context(Containers(store.root).supervise(container))
            renew_work(container)
            image = Image.read(store, container.config.manifest)
            files = root(container, lowers(store, image, isolation), isolation)
            path = stack.enter_context(overlay(files, os.fspath(store.temporary("root"))))
        try:
            descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise SandboxError(f"reach the files of container {container.name}: {error.strerror}") from error
        stack.callback(os.close, descriptor)
        yield descriptor
