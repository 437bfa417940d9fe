"""Commands in containers that exist: ``exec`` and ``start``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from layersmith.cli.containers import containers_of, each
from layersmith.cli.running import (
    in_background,
    need_terminal,
    notify,
    own_failure,
    wrong_usage_is_ours,
)
from layersmith.dataclass import replace
from layersmith.errors import LayersmithError

if TYPE_CHECKING:
    from layersmith.containers.container import Container

EXEC_EXAMPLES = """\
examples:
  layersmith exec -it web sh            a shell in a running container
  layersmith exec -u nobody -e A=1 web env
"""


def exec_arguments(parser: argparse.ArgumentParser) -> None:
    wrong_usage_is_ours(parser)
    add = parser.add_argument
    add("-i", "--interactive", action="store_true", help="connect standard input")
    add("-t", "--tty", action="store_true", help="give the command a terminal")
    add("-d", "--detach", action="store_true", help="run in the background")
    add("-e", "--env", action="append", default=[], metavar="NAME[=VALUE]", help="set a variable")
    add("--env-file", action="append", default=[], metavar="FILE", help="set the variables in FILE")
    add("-w", "--workdir", default="", metavar="DIR", help="the working directory")
    add("-u", "--user", default="", metavar="USER[:GROUP]", help="who runs the command")
    add("--privileged", action="store_true", help="all capabilities, and no seccomp filter")
    add("container", metavar="CONTAINER")
    add("command", nargs=argparse.REMAINDER, metavar="COMMAND …")


def exec(args: argparse.Namespace) -> int:
    """Run a command in a running container."""
    try:
        if not args.command:
            from layersmith.errors import UsageError

            raise UsageError("exec needs a command", hint=f"layersmith exec {args.container} COMMAND")
        container = containers_of(args).find(args.container)
        container.running()
        if not args.detach:
            need_terminal(args)
            return _exec(args, container, None)
        from layersmith.containers.detach import detach

        return detach(lambda ready: in_background(lambda: _exec(args, container, ready)))
    except LayersmithError as error:
        raise own_failure(error) from None


def _exec(args: argparse.Namespace, container: Container, ready: Callable[[], None] | None) -> int:
    from layersmith.containers.options import environment
    from layersmith.linux.spawner import Spawner
    from layersmith.linux.userns import join

    env = environment((), args.env_file, args.env, os.environ)
    status = container.running()
    isolation = join(status.supervisor)
    with ExitStack() as stack:
        spawner = stack.enter_context(Spawner.start(contained=False))
        from layersmith.cli.attached import attachment
        from layersmith.containers import sandboxes
        from layersmith.containers.attach import attach
        from layersmith.containers.streams import Streams
        from layersmith.linux.runtime import Started

        process = sandboxes.process(container.config, tty=args.tty)
        process = replace(
            process,
            args=tuple(args.command),
            env=tuple((dict(process.env) | dict(env)).items()),
            cwd=args.workdir or process.cwd,
            user=args.user or process.user,
        )
        sandbox = replace(
            sandboxes.sandbox(container, sandboxes.root(container, (), isolation), cgroups=status.cgroups),
            tty=args.tty,
            insecure=args.privileged or container.config.insecure,
        )

        def start(streams: Streams) -> Started:
            return spawner.enter_running(
                status.pid,
                sandbox,
                process,
                stdin=streams.stdin,
                stdout=streams.stdout,
                stderr=streams.stderr,
            )

        attached = stack.enter_context(attachment(args, "", ready))
        return attach(start, attached, tty=args.tty)


START_EXAMPLES = """\
examples:
  layersmith start web             again, in the background, on the files that it left
  layersmith start -ai box         stay with it, with its terminal, if it was run with -it
"""


def start_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-a", "--attach", action="store_true", help="stay with it: its output, signals, and its status")
    add("-i", "--interactive", action="store_true", help="with -a: connect standard input")
    add("containers", nargs="+", metavar="CONTAINER", help="a name, or the beginning of an id")


def start(args: argparse.Namespace) -> int:
    """Run containers' commands again, on the files that they left."""
    from layersmith.containers.detach import detach
    from layersmith.errors import UsageError

    containers = containers_of(args)
    if args.attach or args.interactive:
        try:
            if len(args.containers) > 1:
                raise UsageError("only one container can be attached to")
            container = containers.find(args.containers[0])
            args.tty = container.config.tty
            need_terminal(args)
            return _start(args, container, None)
        except LayersmithError as error:
            raise own_failure(error) from None

    failed = 0

    def one(name: str) -> None:
        nonlocal failed
        container = containers.find(name)
        if container.status().state == "running":
            print(name)
            return
        args.interactive = container.config.open_stdin
        failed = detach(lambda ready: in_background(lambda: _start(args, container, ready))) or failed

    return each(args.containers, one) or failed


def _start(args: argparse.Namespace, container: Container, ready: Callable[[], None] | None) -> int:
    from layersmith.linux.spawner import Spawner
    from layersmith.linux.userns import enter

    isolation = enter()
    with ExitStack() as stack:
        spawner = stack.enter_context(Spawner.start())
        from layersmith.cli.attached import attachment
        from layersmith.cli.stores import open_store
        from layersmith.containers import lifecycle
        from layersmith.linux.network import DefaultNetwork
        from layersmith.linux.runtime import runtime

        store = stack.enter_context(open_store(args))
        network = stack.enter_context(DefaultNetwork(spawner, store.temporary("network")))
        runs = runtime(container.config.isolation, spawner, store.temporary)
        host = lifecycle.Host(store, runs, isolation, network.connect, notify)
        with host.containers.supervise(container):
            with attachment(args, container.name, ready) as attached:
                status = lifecycle.run(host, container, attached)
    return status.code
