"""`--change` of import: a few Dockerfile instructions applied to an image's config. In: their texts. Out: a config."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Sequence

from layersmith.buildfile.instructions import (
    Cmd,
    Command,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Instruction,
    Label,
    Onbuild,
    Shell,
    Stopsignal,
    User,
    Volume,
    Workdir,
)
from layersmith.buildfile.parser import parse
from layersmith.buildfile.words import expand, expand_words
from layersmith.dataclass import replace
from layersmith.errors import BuildfileError, UsageError
from layersmith.oci import config as oci
from layersmith.oci.config import ImageConfig

_SHELL = ("/bin/sh", "-c")
_NAMES = "CMD ENTRYPOINT ENV EXPOSE HEALTHCHECK LABEL ONBUILD SHELL STOPSIGNAL USER VOLUME WORKDIR"


def apply_changes(config: ImageConfig, changes: Sequence[str]) -> ImageConfig:
    """``config`` after the instructions ``changes``, in order, each a line such as ``ENV A=1`` or ``CMD ["sh"]``.

    Raises:
        UsageError: one can't be parsed, or is not one of those that only change the config.
    """
    for text in changes:
        try:
            instructions = parse(text + "\n", "--change").instructions
            for instruction in instructions:
                config = _applied(config, instruction)
        except BuildfileError as error:
            raise UsageError(f"--change {text!r}: {error.message}", hint=error.hint) from error
    return config


def _applied(config: ImageConfig, instruction: Instruction) -> ImageConfig:
    env = dict(entry.partition("=")[::2] for entry in config.env)

    def words(text: str) -> str:
        return expand(text, env)

    match instruction:
        case Env():
            return replace(config, env=_with_env(config.env, instruction, words))
        case Label():
            labels = dict(config.labels) | {words(key): words(value) for key, value in instruction.pairs}
            return replace(config, labels=tuple(sorted(labels.items())))
        case Cmd():
            return replace(config, cmd=_argv(config, instruction.command))
        case Entrypoint():
            return replace(config, entrypoint=_argv(config, instruction.command))
        case Expose():
            ports = {_port(word) for text in instruction.ports for word in expand_words(text, env)}
            return replace(config, exposed_ports=tuple(sorted(ports.union(config.exposed_ports))))
        case Volume():
            volumes = {words(path) for path in instruction.paths}
            return replace(config, volumes=tuple(sorted(volumes.union(config.volumes))))
        case User():
            return replace(config, user=words(instruction.user))
        case Workdir():
            path = posixpath.join(config.working_dir or "/", words(instruction.path))
            return replace(config, working_dir=posixpath.normpath("/" + path.lstrip("/")))
        case Shell():
            return replace(config, shell=instruction.args)
        case Stopsignal():
            return replace(config, stop_signal=words(instruction.signal))
        case Healthcheck():
            return replace(config, healthcheck=_healthcheck(config, instruction))
        case Onbuild():
            return replace(config, on_build=(*config.on_build, instruction.trigger))
    raise UsageError(
        f"--change can't do {instruction.text!r}: it would change files", hint=f"one of {_NAMES} it can"
    )


def _argv(config: ImageConfig, command: Command) -> tuple[str, ...]:
    return (*(config.shell or _SHELL), *command.args) if command.shell else command.args


def _with_env(before: tuple[str, ...], instruction: Env, words: Callable[[str], str]) -> tuple[str, ...]:
    """A variable that is there keeps its place."""
    values = dict(entry.partition("=")[::2] for entry in before)
    values.update({words(key): words(value) for key, value in instruction.pairs})
    return tuple(f"{key}={value}" for key, value in values.items())


def _port(word: str) -> str:
    number, _, protocol = word.partition("/")
    protocol = protocol.lower() or "tcp"
    if not number.isdecimal() or int(number) > 65535 or protocol not in ("tcp", "udp", "sctp"):
        raise UsageError(f"--change: {word!r} is not a port", hint="for example EXPOSE 80 or EXPOSE 53/udp")
    return f"{int(number)}/{protocol}"


def _healthcheck(config: ImageConfig, instruction: Healthcheck) -> oci.Healthcheck:
    if instruction.none or instruction.command is None:
        return oci.Healthcheck(test=("NONE",))
    kind = "CMD-SHELL" if instruction.command.shell else "CMD"
    return oci.Healthcheck(
        test=(kind, *instruction.command.args),
        interval_ns=instruction.interval,
        timeout_ns=instruction.timeout,
        start_period_ns=instruction.start_period,
        start_interval_ns=instruction.start_interval,
        retries=instruction.retries,
    )
