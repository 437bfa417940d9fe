"""``layersmith run``: options as in docker run, then one call of `layersmith.containers.lifecycle.run`."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from layersmith.cli.confine import (
    layer_size_argument,
    limit_arguments,
    limit_layers,
    limits,
    security_arguments,
    security_options,
    size,
)
from layersmith.cli.registries import registry_arguments
from layersmith.errors import LayersmithError, UsageError

if TYPE_CHECKING:
    from layersmith.containers.config import ContainerConfig
    from layersmith.containers.configure import RunOptions
    from layersmith.image import Image
    from layersmith.linux.userns import Isolation
    from layersmith.oci.descriptor import Descriptor
    from layersmith.store import Store

FAILED = 125
"""The status where it is not the command that failed, but layersmith (docker's)."""

RUN_EXAMPLES = """\
examples:
  layersmith run --rm debian:bookworm cat /etc/os-release
  layersmith run -it --name box busybox            a shell, with a terminal; `layersmith start -ai box` goes on in it
  layersmith run -d -v ./site:/www web             in the background; `layersmith logs -f` shows what it says
"""


def run_arguments(parser: argparse.ArgumentParser) -> None:
    wrong_usage_is_ours(parser)
    add = parser.add_argument

    def repeat(*names: str, metavar: str, help: str) -> None:
        add(*names, action="append", default=[], metavar=metavar, help=help)

    def flag(*names: str, help: str) -> None:
        add(*names, action="store_true", help=help)

    flag("-i", "--interactive", help="connect standard input")
    flag("-t", "--tty", help="give the command a terminal")
    flag("-d", "--detach", help="run in the background; print the container's id")
    flag("--rm", help="remove the container when it ends")
    add("--name", default="", metavar="NAME", help="name the container (default: a random one)")
    repeat("-e", "--env", metavar="NAME[=VALUE]", help="set a variable, or pass on the caller's")
    repeat("--env-file", metavar="FILE", help="set the variables in FILE, one NAME=VALUE a line")
    repeat("-l", "--label", metavar="NAME=VALUE", help="add a label")
    add("-w", "--workdir", default="", metavar="DIR", help="the working directory")
    add("-u", "--user", default="", metavar="USER[:GROUP]", help="who runs the command")
    repeat("-v", "--volume", metavar="SOURCE:TARGET[:ro]", help="mount a directory or file of this machine")
    repeat("--mount", metavar="type=bind|tmpfs,…", help="mount, as in docker")
    repeat("--tmpfs", metavar="TARGET[:OPTIONS]", help="mount an empty tmpfs (size=, mode=, ro, exec)")
    add("--entrypoint", metavar="PROGRAM", help="instead of the image's entrypoint")
    add("--hostname", default="", metavar="NAME", help="(default: the container's short id)")
    add("--network", "--net", default="default", choices=("default", "none", "host"), help="which network")
    repeat("--add-host", metavar="NAME:IP", help="a line for /etc/hosts")
    repeat("--dns", metavar="IP", help="a name server")
    flag("--read-only", help="make the root file system read-only")
    flag("--init", help="run a small init as PID 1, which reaps and forwards signals")
    repeat("--ulimit", metavar="NAME=SOFT[:HARD]", help="a resource limit")
    add("--shm-size", default="64m", metavar="BYTES", help="size of /dev/shm (default: 64m)")
    flag(
        "--privileged", help="all capabilities, devices and system calls: no protection (--security=insecure)"
    )
    add("--security", default="sandbox", choices=("sandbox", "insecure"), help="insecure is --privileged")
    security_arguments(parser)
    layer_size_argument(parser)
    limit_arguments(parser)
    add(
        "--stop-signal",
        default="",
        metavar="SIGNAL",
        help="what `stop` sends (default: the image's, or TERM)",
    )
    add("--stop-timeout", type=int, default=10, metavar="SECONDS", help="how long `stop` waits (default: 10)")
    add("--pull", default="missing", choices=("missing", "always", "never"), help="when to ask the registry")
    registry_arguments(parser)
    add("--platform", metavar="OS/ARCH", help="which image of several (default: this machine's)")
    add("--cidfile", metavar="FILE", help="write the container's id to FILE")
    add("--log-driver", default="cri", choices=("cri", "none"), help="none: keep no log")
    add("image", metavar="IMAGE")
    add("command", nargs=argparse.REMAINDER, metavar="COMMAND …", help="instead of the image's command")


def wrong_usage_is_ours(parser: argparse.ArgumentParser) -> None:
    """Let ``parser`` end with 125 where it would with 2, which may be the command's own status."""
    leave = parser.exit

    def exit_with(status: int = 0, message: str | None = None) -> NoReturn:
        leave(FAILED if status == 2 else status, message)

    parser.exit = exit_with  # type: ignore[method-assign]


def run(args: argparse.Namespace) -> int:
    """Run a command in a new container."""
    try:
        options = _options(args)
        if not args.detach:
            need_terminal(args)
            return _run(args, options, None)
        from layersmith.containers.detach import detach

        return detach(lambda ready: in_background(lambda: _run(args, options, ready)))
    except LayersmithError as error:
        raise own_failure(error) from None


def need_terminal(args: argparse.Namespace) -> None:
    """Raises UsageError: ``-it`` without a terminal to pass on."""
    if args.tty and args.interactive and not os.isatty(0):
        raise UsageError("standard input is not a terminal", hint="leave out -t, or run it in a terminal")


def own_failure(error: LayersmithError) -> LayersmithError:
    """``error``, to be reported with the status that tells it from a failure of the command."""
    error.cli_status = FAILED  # type: ignore[attr-defined]
    return error


def in_background(work: Callable[[], int]) -> int:
    """``work``, in the process that `detach` forked: its errors are shown here, for nobody is above."""
    from layersmith.cli.errors import show

    try:
        return work()
    except LayersmithError as error:
        show(error)
        return FAILED
    except KeyboardInterrupt:
        return 130


def _run(args: argparse.Namespace, options: RunOptions, ready: Callable[[], None] | None) -> int:
    from layersmith.linux.spawner import Spawner
    from layersmith.linux.userns import enter

    # First of all, and before there is any thread: see DESIGN "Running a step".
    isolation = enter()
    with ExitStack() as stack:
        spawner = stack.enter_context(Spawner.start())
        from layersmith.cli.attached import attachment
        from layersmith.containers import lifecycle
        from layersmith.containers.configure import configure
        from layersmith.linux.network import DefaultNetwork
        from layersmith.linux.runtime import runtime
        from layersmith.store import Store

        for warning in isolation.warnings:
            notify(warning)
        store = stack.enter_context(Store.open(None if args.root is None else Path(args.root)))
        limit_layers(args, store)
        manifest, image = _image(store, args, isolation)
        network = stack.enter_context(DefaultNetwork(spawner, store.temporary("network")))
        host = lifecycle.Host(
            store, runtime(args.isolation, spawner, store.temporary), isolation, network.connect, notify
        )

        def config(id: str, name: str) -> ContainerConfig:
            return configure(
                options,
                image.config,
                manifest,
                id=id,
                name=name,
                caller=os.environ,
                host_name=os.uname().nodename,
            )

        with host.containers.create(config, args.name) as container:
            with _cidfile(args.cidfile, container.id), attachment(args, container.id, ready) as attached:
                status = lifecycle.run(host, container, attached)
        host.containers.sweep(store.trash)
    if status.error:
        print(f"layersmith: {status.error}", file=sys.stderr)
    return status.code


def notify(text: str) -> None:
    """Say what a person should know."""
    print(f"warning: {text.replace('steps use', 'the container uses', 1)}", file=sys.stderr)


@contextlib.contextmanager
def _cidfile(name: str | None, identity: str) -> Iterator[None]:
    if name is not None:
        try:
            with open(name, "x") as file:
                file.write(identity)
        except OSError as error:
            raise UsageError(
                f"can't write --cidfile {name}: {error.strerror}", hint="it must not exist yet"
            ) from None
    yield


def _image(store: Store, args: argparse.Namespace, isolation: Isolation) -> tuple[Descriptor, Image]:
    """The manifest to run and its image: from the store, or else from a registry."""
    from layersmith.errors import NotFoundError
    from layersmith.image import Image, select
    from layersmith.oci.platform import matches, native, parse_platform

    platform = parse_platform(args.platform) if args.platform else native()
    if args.pull != "always":
        try:
            descriptor = select(store, store.refs.resolve(args.image), platform)
            image = Image.read(store, descriptor)
            if not args.platform or matches(platform, image.config.platform):
                return descriptor, image
        except NotFoundError:
            if args.pull == "never":
                raise
    if args.pull == "never":
        raise NotFoundError(f"image {args.image} in the store is not for {platform}")
    from layersmith.cli.progress import display
    from layersmith.cli.sources import puller
    from layersmith.cli.unpacking import into

    with display("auto", ticking=True) as progress:
        pull = puller(args, store, progress, unpacking=into(isolation))
        descriptor = select(store, pull(args.image, platform), platform)
    return descriptor, Image.read(store, descriptor)


# The options


def _options(args: argparse.Namespace) -> RunOptions:
    from layersmith.containers import options
    from layersmith.containers.configure import RunOptions
    from layersmith.linux.sandbox import Rlimit

    mounts = [
        *(options.volume(text) for text in args.volume),
        *(options.mount(text) for text in args.mount),
        *(options.tmpfs(text) for text in args.tmpfs),
    ]
    security = security_options(args.security_opt)
    if args.init and args.isolation != "builtin":
        raise UsageError("--init is the built-in isolation's own", hint="leave out --isolation, or --init")
    return RunOptions(
        image=args.image,
        command=tuple(args.command),
        entrypoint=args.entrypoint,
        env=tuple(args.env),
        env_files=tuple(args.env_file),
        labels=tuple((name, value) for name, _, value in (text.partition("=") for text in args.label)),
        workdir=args.workdir,
        user=args.user,
        hostname=args.hostname,
        mounts=tuple(mounts),
        network=args.network,
        cap_add=tuple(args.cap_add),
        cap_drop=tuple(args.cap_drop),
        insecure=args.privileged or args.security == "insecure",
        seccomp=security.seccomp,
        no_new_privileges=security.no_new_privileges,
        readonly=args.read_only,
        init=args.init,
        tty=args.tty,
        open_stdin=args.interactive,
        auto_remove=args.rm,
        rlimits=tuple(Rlimit.parse(text) for text in args.ulimit),
        add_hosts=tuple(args.add_host),
        dns=tuple(args.dns),
        shm_size=size(args.shm_size, "--shm-size"),
        limits=limits(args),
        stop_signal=args.stop_signal,
        stop_timeout=args.stop_timeout,
        isolation=args.isolation,
        # Nobody can read the log of a container that is gone when its command ends, and was seen all the time.
        log=args.log_driver != "none" and not (args.rm and not args.detach),
    )
