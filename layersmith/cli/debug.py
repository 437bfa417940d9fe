"""``debug``, and ``build --on-error=shell``: a shell in what a failed step left."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from layersmith import ops
from layersmith.cli.builds import BUILD_HELP
from layersmith.dataclass import replace
from layersmith.errors import NotFoundError, StepError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from layersmith.build import BuildRequest
    from layersmith.errors import CommandError
    from layersmith.execute.settings import RunSettings
    from layersmith.execute.tree import Tree
    from layersmith.linux.sandbox import Sandbox
    from layersmith.solve import Isolate
    from layersmith.solve.executor import Executor
    from layersmith.solve.failed import FailedStep
    from layersmith.store import Build, Store

SHELL = ("/bin/sh",)

DEBUG_EXAMPLES = """\
examples:
  layersmith debug                            a shell where the last build that failed stopped
  layersmith debug web:1.2 --step 4 -c env    a command, in what step 4 of an image's last build left
  layersmith debug --secret id=token,src=t    secrets are kept nowhere: give them again
  layersmith build --on-error=shell .         at once

The shell has the step's files as its command left them, its environment, mounts, user and working directory. What it
changes there goes with it; cache mounts are the real ones.
"""


def debug_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "build",
        nargs="?",
        default="",
        metavar="BUILD",
        help=BUILD_HELP.replace("the last)", "the last failed)"),
    )
    add("-c", "--command", metavar="TEXT", help="have the shell do this, instead of asking for commands")
    add(
        "--shell", default="/bin/sh", metavar="PATH", help="another program of the image's (default: /bin/sh)"
    )
    add("--step", type=int, metavar="N", help="which step, if several failed (default: the last of them)")
    add("--secret", action="append", default=[], metavar="id=ID[,src=FILE|,env=NAME]", help="as for build")
    add("--ssh", action="append", default=[], metavar="default|ID[=SOCKET]", help="as for build")


def debug(args: argparse.Namespace) -> int:
    """Open a shell in what a failed step left; its status."""
    from layersmith.cli.build import isolation
    from layersmith.cli.request import run_secrets
    from layersmith.execute.settings import RunSettings
    from layersmith.store import Store

    with ExitStack() as stack:
        isolate = isolation(stack)
        isolate()
        root = None if args.root is None else Path(args.root)
        store = stack.enter_context(Store.open(root, create=False))
        build, failed = _find(store, args.build, args.step)
        secrets, ssh = run_secrets(args)
        settings = RunSettings(secrets=secrets, ssh=ssh, hosts=failed.hosts, dns=failed.dns)
        print(_banner(build, failed), file=sys.stderr)
        command = (args.shell,) if args.command is None else (args.shell, "-c", args.command)
        return _run(store, failed, _contexts(failed), settings, isolate, command)


def shell_after(error: CommandError, store: Store, request: BuildRequest, isolate: Isolate) -> None:
    """Tell the error, then open a shell in what the command left, with the secrets and contexts of the build."""
    from layersmith.build import trees_of
    from layersmith.cli.errors import show
    from layersmith.solve.failed import read_failed

    if not error.told:
        show(error)
        error.told = True
    name, _, number = error.kept.partition("/")
    build = store.builds.read(name)
    failed = read_failed(store, build, int(number))
    print(_banner(build, failed), file=sys.stderr)
    trees: dict[ops.Input, Tree] = dict(trees_of(request).items())
    _run(store, failed, trees, request.settings.run, isolate, SHELL)


def _find(store: Store, reference: str, number: int | None) -> tuple[Build, FailedStep]:
    """Raises NotFoundError."""
    from layersmith.solve.failed import read_failed

    builds = [store.builds.find(reference)] if reference else list(store.builds.recent())
    for build in builds:
        kept = [step.number for step in build.steps if store.builds.failed(build.id, step.number).exists()]
        if number is not None and (reference or number in kept):
            return build, read_failed(store, build, number)
        if kept:
            return build, read_failed(store, build, kept[-1])
    what = f"of build {builds[0].id}" if reference else "of any build"
    raise NotFoundError(
        f"nothing is kept {what}",
        hint="only what a RUN that failed left is kept, of the last few builds in which one did",
    )


def _banner(build: Build, failed: FailedStep) -> str:
    step = build.step(failed.number)
    return (
        f"step {step.number} of build {build.id}, as it was left: {step.name}\n"
        "what is changed here goes with the shell: type exit"
    )


def _contexts(failed: FailedStep) -> dict[ops.Input, Tree]:
    """The contexts that the step mounts, as they are now."""
    from layersmith.context import Context
    from layersmith.execute.tree import Tree

    trees: dict[ops.Input, Tree] = {}
    for given in ops.inputs(failed.op):
        if isinstance(given, ops.ContextInput):
            root = failed.contexts[given.name]
            if not root.is_dir():
                raise StepError(
                    f"the context {given.name}, {root}, is no longer there", hint="the step mounts it"
                )
            trees[given] = Tree.of_context(Context.open(root))
    return trees


def _run(
    store: Store,
    failed: FailedStep,
    contexts: Mapping[ops.Input, Tree],
    settings: RunSettings,
    isolate: Isolate,
    command: tuple[str, ...],
) -> int:
    from layersmith.progress import NullProgress
    from layersmith.solve.executor import Executor
    from layersmith.solve.failed import prepared
    from layersmith.solve.scheduler import Stop

    isolation, spawner = isolate()
    executor = Executor(store, spawner, isolation, settings, NullProgress(), Stop(), store.temporary("debug"))
    with executor, prepared(store, executor, failed, contexts) as sandbox:
        process = replace(sandbox.process, args=command)
        tty = os.isatty(0) and os.isatty(1)
        return _attached(executor, replace(sandbox, process=process, tty=tty))


def _attached(executor: Executor, sandbox: Sandbox) -> int:
    """Run it on this process' own streams or terminal; its status."""
    from layersmith.cli.attached import Foreground
    from layersmith.containers.attach import attach
    from layersmith.containers.streams import Streams
    from layersmith.linux.runtime import Started

    def start(streams: Streams) -> Started:
        return executor.runner.runtime.run(
            sandbox, stdin=streams.stdin, stdout=streams.stdout, stderr=streams.stderr
        )

    with Foreground(interactive=True, tty=sandbox.tty) as foreground:
        return attach(start, foreground, tty=sandbox.tty)
