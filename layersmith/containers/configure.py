"""What ``run`` was asked for, and the image, to a `ContainerConfig`: pure, with docker's rules of what wins."""

from __future__ import annotations

import time
from collections.abc import Mapping

from layersmith.containers.config import (
    DEFAULT_STOP_SIGNAL,
    DEFAULT_STOP_TIMEOUT,
    ContainerConfig,
    Mount,
)
from layersmith.containers.options import environment, signal_number
from layersmith.dataclass import dataclass
from layersmith.errors import UsageError
from layersmith.linux import caps
from layersmith.linux.limits import NO_LIMITS, Limits
from layersmith.linux.sandbox import DEFAULT_SHM_SIZE, Rlimit
from layersmith.oci.config import ImageConfig
from layersmith.oci.descriptor import Descriptor
from layersmith.oci.process import Process


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The command line of ``run``, its values parsed. None and ``""`` are what was not given.

    ``entrypoint`` of ``""`` takes the image's away. ``env``: ``NAME=VALUE`` or ``NAME``.
    """

    image: str
    command: tuple[str, ...] = ()
    entrypoint: str | None = None
    env: tuple[str, ...] = ()
    env_files: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    workdir: str = ""
    user: str = ""
    hostname: str = ""
    mounts: tuple[Mount, ...] = ()
    network: str = "default"
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    insecure: bool = False
    seccomp: bool = True
    no_new_privileges: bool = False
    readonly: bool = False
    init: bool = False
    tty: bool = False
    open_stdin: bool = False
    auto_remove: bool = False
    rlimits: tuple[Rlimit, ...] = ()
    add_hosts: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    shm_size: int = 0
    limits: Limits = NO_LIMITS
    stop_signal: str = ""
    stop_timeout: int = DEFAULT_STOP_TIMEOUT
    isolation: str = "builtin"
    log: bool = True


def configure(
    options: RunOptions,
    image: ImageConfig,
    manifest: Descriptor,
    *,
    id: str,
    name: str,
    caller: Mapping[str, str],
    host_name: str,
) -> ContainerConfig:
    """The container ``id`` that ``options`` ask for. ``caller`` is the caller's environment, ``host_name`` this machine's.

    Raises UsageError: there is no command, or a value makes no sense.
    """
    entrypoint, cmd = _command(options, image)
    cwd = options.workdir or image.working_dir or "/"
    if not cwd.startswith("/"):
        raise UsageError(f"the working directory {cwd!r} is not absolute", hint="write it from / on")
    hostname = options.hostname or (host_name if options.network == "host" else id[:12])
    env = environment(image.env, options.env_files, options.env, caller)
    stop_signal = options.stop_signal or image.stop_signal or DEFAULT_STOP_SIGNAL
    signal_number(stop_signal)
    return ContainerConfig(
        id=id,
        name=name,
        image=options.image,
        manifest=manifest,
        created=time.time(),
        process=Process((*entrypoint, *cmd), env, cwd, options.user or image.user),
        entrypoint=entrypoint,
        cmd=cmd,
        labels=tuple(sorted((dict(image.labels) | dict(options.labels)).items())),
        mounts=options.mounts,
        hostname=hostname,
        network=options.network,
        capabilities=tuple(sorted(caps.capabilities(options.cap_add, options.cap_drop))),
        insecure=options.insecure,
        seccomp=options.seccomp,
        no_new_privileges=options.no_new_privileges,
        readonly=options.readonly,
        init=options.init,
        tty=options.tty,
        open_stdin=options.open_stdin,
        auto_remove=options.auto_remove,
        rlimits=options.rlimits,
        add_hosts=options.add_hosts,
        dns=options.dns,
        shm_size=options.shm_size or DEFAULT_SHM_SIZE,
        limits=options.limits,
        stop_signal=stop_signal,
        stop_timeout=options.stop_timeout,
        isolation=options.isolation,
        log=options.log,
    )


def _command(options: RunOptions, image: ImageConfig) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(entrypoint, cmd). Another entrypoint makes nothing of the image's CMD, which was meant for its own."""
    if options.entrypoint is not None:
        entrypoint: tuple[str, ...] = (options.entrypoint,) if options.entrypoint else ()
        cmd = options.command
    else:
        entrypoint = image.entrypoint or ()
        cmd = options.command or image.cmd or ()
    if not entrypoint and not cmd:
        raise UsageError(
            f"image {options.image} has no command of its own",
            hint=f"name one: layersmith run {options.image} sh",
        )
    return entrypoint, cmd
