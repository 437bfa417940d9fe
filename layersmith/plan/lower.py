"""PLAN: RUN, COPY and ADD as ops. In: an instruction and the `Scope` it stands in. Out: a frozen op, words expanded."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from typing import Protocol

from layersmith import ops
from layersmith.buildfile.chmod import parse_chmod
from layersmith.buildfile.instructions import Add, Command, Copy, Heredoc, Run
from layersmith.context.giturl import is_git_url
from layersmith.errors import PlanError
from layersmith.oci.config import ImageConfig
from layersmith.oci.process import Process
from layersmith.plan import mounts, values
from layersmith.plan.arguments import passed_proxies
from layersmith.plan.model import PlanOptions

DEFAULT_SHELL = ("/bin/sh", "-c")


class Scope(Protocol):
    """Where an instruction stands: its stage's config and environment so far (`stage._Fold`)."""

    config: ImageConfig
    env: dict[str, str]

    @property
    def options(self) -> PlanOptions: ...
    def expand(self, text: str) -> str: ...
    def expand_heredoc(self, body: str) -> str: ...
    def input(self, name: str | None) -> ops.Input: ...


def argv(scope: Scope, command: Command) -> tuple[str, ...]:
    """The command's argv: the shell form is handed to the stage's SHELL."""
    return (*(scope.config.shell or DEFAULT_SHELL), *command.args) if command.shell else command.args


def exec_op(scope: Scope, instruction: Run) -> ops.ExecOp:
    """RUN."""
    options = scope.options
    if instruction.security == "insecure" and not options.insecure:
        raise PlanError(
            "security.insecure is not allowed", hint="give --allow security.insecure to the build"
        )
    args, scripts = _command(scope, instruction.command)
    return ops.ExecOp(
        Process(args, tuple(scope.env.items()), scope.config.working_dir or "/", scope.config.user),
        mounts=mounts.resolve(
            instruction.mounts,
            scope.expand,
            scope.input,
            workdir=scope.config.working_dir or "/",
            namespace=options.build_args.get("BUILDKIT_CACHE_MOUNT_NS", ""),
        ),
        scripts=scripts,
        network=instruction.network or options.network,
        security=instruction.security or "sandbox",
        hostname=options.hostname,
        hosts=tuple(name for name, _ in options.hosts),
        shm_size=options.shm_size,
        ulimits=options.ulimits,
        privileges=options.privileges,
        no_cache=instruction.no_cache,
        retry=instruction.retry,
        timeout=instruction.timeout,
        passed_env=passed_proxies(options.build_args, scope.env),
    )


def _command(scope: Scope, command: Command) -> tuple[tuple[str, ...], tuple[ops.ScriptFile, ...]]:
    """The argv of RUN, and the heredoc that is a script of its own (``#!``), if there is one."""
    if command.script is not None and command.script.body.startswith("#!"):
        script = ops.ScriptFile(f"/dev/pipes/{command.script.name}", _bytes(command.script.body))
        return (*(scope.config.shell or DEFAULT_SHELL), script.path), (script,)
    return argv(scope, command), ()


def copy_op(scope: Scope, instruction: Copy) -> ops.CopyOp:
    """COPY."""
    from_ = _optional(scope, instruction.from_)
    if from_ == "":
        raise PlanError(f"--from={instruction.from_} is empty")
    source = scope.input(from_)
    paths = [ops.PathSource(scope.expand(s), source) for s in instruction.sources]
    return ops.CopyOp(
        (*paths, *_inline(scope, instruction.heredocs)),
        values.destination(scope.config.working_dir, scope.expand(instruction.dest)),
        chown=_optional(scope, instruction.chown),
        chmod=_chmod(scope, instruction),
        link=instruction.link,
        parents=instruction.parents,
        excludes=tuple(scope.expand(e) for e in instruction.excludes),
    )


def add_op(scope: Scope, instruction: Add) -> ops.CopyOp:
    """ADD."""
    checksum = _optional(scope, instruction.checksum)
    keep_git_dir = bool(instruction.keep_git_dir)
    sources = [_add_source(scope.expand(s), checksum, keep_git_dir=keep_git_dir) for s in instruction.sources]
    if checksum is not None and (len(sources) != 1 or isinstance(sources[0], ops.PathSource)):
        raise PlanError("checksum can only be given for one HTTP(S) or git source")
    return ops.CopyOp(
        (*sources, *_inline(scope, instruction.heredocs)),
        values.destination(scope.config.working_dir, scope.expand(instruction.dest)),
        chown=_optional(scope, instruction.chown),
        chmod=_chmod(scope, instruction),
        link=instruction.link,
        excludes=tuple(scope.expand(e) for e in instruction.excludes),
        add=True,
        unpack=instruction.unpack,
    )


def _add_source(source: str, checksum: str | None, *, keep_git_dir: bool) -> ops.CopySource:
    if is_git_url(source):
        return ops.GitSource(source, checksum, keep_git_dir)
    if values.is_url(source):
        return ops.HttpSource(source, None if checksum is None else values.checksum(checksum))
    return ops.PathSource(source, ops.ContextInput())


def _inline(scope: Scope, heredocs: Iterable[Heredoc]) -> list[ops.InlineSource]:
    return [
        ops.InlineSource(
            posixpath.basename(h.name), _bytes(scope.expand_heredoc(h.body) if h.expand else h.body)
        )
        for h in heredocs
    ]


def _chmod(scope: Scope, instruction: Copy | Add) -> str | None:
    """An empty one is none (BuildKit)."""
    text = _optional(scope, instruction.chmod) or None
    if text is not None:
        parse_chmod(text)
    return text


def _optional(scope: Scope, text: str | None) -> str | None:
    return None if text is None else scope.expand(text)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
