"""The store and the platform that a command's arguments name."""

from __future__ import annotations

import contextlib
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layersmith.containers.container import Container
    from layersmith.oci.platform import Platform
    from layersmith.store import Store


def open_store(args: Namespace, *, create: bool = False, owners: bool = False) -> Store:
    """The store of ``--root``; close it.

    ``owners``: the command reads or deletes unpacked files, or takes owners from the disk. A user's store has files
    of their subordinate ids, whom only a user namespace can touch; without one, it goes as far as it gets.

    Raises:
        StoreError: there is none and ``create`` is off, or it can't be used.
    """
    from layersmith.store import Store

    if owners:
        from layersmith.errors import SandboxError
        from layersmith.linux.userns import enter

        with contextlib.suppress(SandboxError):
            enter()
    return Store.open(None if args.root is None else Path(args.root), create=create)


def container_called(root: Path, name: str) -> Container | None:
    """The container that ``name`` means, if any: containers come before images, as in docker inspect."""
    from layersmith.containers.container import Containers
    from layersmith.errors import NotFoundError

    try:
        return Containers(root).find(name)
    except NotFoundError:
        return None


def platform_argument(parser: ArgumentParser) -> None:
    """``--platform``, for commands that look at one image."""
    parser.add_argument(
        "--platform", metavar="OS/ARCH", help="of an image for several platforms (default: this machine's)"
    )


def platform_of(args: Namespace) -> Platform | None:
    """What ``--platform`` says. Raises UsageError."""
    from layersmith.oci.platform import parse_platform

    return parse_platform(args.platform) if args.platform else None
