"""PARSE: which variables are set where, as far as the text alone tells. In: stages. Out: undefined ones, for `lint`.

What a base image's ENV brings is not known here unless the caller says; where it is not, only what looks like a slip
of the pen counts: a name that is declared elsewhere in the file, or one that resembles a declared one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from layersmith.buildfile import instructions as ast
from layersmith.buildfile.instructions import Instruction, Stage
from layersmith.buildfile.suggest import is_slip, nearest
from layersmith.buildfile.words import expand, expand_heredoc
from layersmith.dataclass import dataclass, field
from layersmith.errors import BuildfileError

PLATFORM_ARGS = tuple(
    f"{prefix}{part}"
    for prefix in ("BUILD", "TARGET")
    for part in ("PLATFORM", "OS", "OSVERSION", "ARCH", "VARIANT")
)
PREDEFINED_ARGS = (*PLATFORM_ARGS, "TARGETSTAGE")

BaseEnv = Callable[[str], Mapping[str, str] | None]
"""The ENV of a base image, or None where it is not known."""


@dataclass(slots=True)
class Scope:
    """A stage's variables so far. ``complete``: nothing can come from an image that we do not know."""

    env: dict[str, str] = field(default_factory=dict)
    declared: set[str] = field(default_factory=set)
    complete: bool = True

    def undefined(self, instruction: Instruction, escape: str) -> set[str]:
        """Variables that ``instruction`` uses without a default and that are not set."""
        unset: set[str] = set()
        for text in expanded_texts(instruction):
            expanded(text, self.env, escape, unset)
        for heredoc in getattr(instruction, "heredocs", ()):
            if heredoc.expand:
                with suppress(BuildfileError):
                    expand_heredoc(heredoc.body, self.env, unset=unset)
        return unset - self.declared

    def apply(
        self,
        instruction: Instruction,
        escape: str,
        globals_: Mapping[str, str],
        build_args: Mapping[str, str],
    ) -> None:
        """Take in what ``instruction`` sets."""
        if isinstance(instruction, ast.Env):
            values = {
                expanded(key, self.env, escape): expanded(value, self.env, escape)
                for key, value in instruction.pairs
            }
            self.env.update(values)
        elif isinstance(instruction, ast.Arg):
            for name, default in instruction.pairs:
                self.declared.add(name)
                if name in build_args:
                    self.env[name] = build_args[name]
                elif default is not None:
                    self.env[name] = expanded(default, self.env, escape)
                elif name in globals_:
                    self.env[name] = globals_[name]
        elif isinstance(instruction, ast.Unset) and instruction.kind == "ENV":
            for name in instruction.names:
                self.env.pop(expanded(name, self.env, escape), None)
        elif isinstance(instruction, ast.Include):
            self.complete = False


def expanded(text: str, env: Mapping[str, str], escape: str, unset: set[str] | None = None) -> str:
    """`expand`, or the text as it is where it can't be: that is an error of its own, and not lint's."""
    try:
        return expand(text, env, escape=escape, unset=unset)
    except BuildfileError:
        return text


def global_scope(args: tuple[ast.Arg, ...], build_args: Mapping[str, str], escape: str) -> dict[str, str]:
    """The values of the ARGs before the first FROM; those without one are left out."""
    scope: dict[str, str] = {}
    for arg in args:
        for name, default in arg.pairs:
            if name in build_args:
                scope[name] = build_args[name]
            elif default is not None:
                scope[name] = expanded(default, {**dict.fromkeys(PREDEFINED_ARGS, ""), **scope}, escape)
    return scope


def undefined_variables(
    globals_: tuple[ast.Arg, ...],
    stages: tuple[Stage, ...],
    *,
    escape: str,
    build_args: Mapping[str, str],
    base_env: BaseEnv,
) -> Iterator[tuple[Instruction, str, str]]:
    """(instruction, variable, "did you mean" or "") for each use of a variable that is not defined there."""
    values = {**dict.fromkeys(PREDEFINED_ARGS, ""), **global_scope(globals_, build_args, escape)}
    global_names = {name for arg in globals_ for name, _ in arg.pairs} | set(PREDEFINED_ARGS)
    ended: dict[str, Scope] = {}
    for index, stage in enumerate(stages):
        scope = _start(expanded(stage.from_.base, values, escape), ended, base_env)
        known_here = _declared_in(stage) | global_names
        for instruction in stage.instructions:
            for name in sorted(scope.undefined(instruction, escape)):
                similar = nearest(name, scope.env.keys() - {name}) or ""
                if scope.complete or name in known_here or is_slip(name, similar):
                    yield instruction, name, similar
            scope.apply(instruction, escape, values, build_args)
        ended[str(index)] = scope
        if stage.name:
            ended[stage.name] = scope


def _start(base: str, ended: Mapping[str, Scope], base_env: BaseEnv) -> Scope:
    if base.lower() in ended:
        parent = ended[base.lower()]
        return Scope(dict(parent.env), set(parent.declared), parent.complete)
    env = {} if base == "scratch" else base_env(base)
    return Scope({"PATH": "", **(env or {})}, complete=env is not None)


def _declared_in(stage: Stage) -> set[str]:
    return {
        name
        for instruction in stage.instructions
        if isinstance(instruction, ast.Arg | ast.Env)
        for name, _ in instruction.pairs
    }


def expanded_texts(instruction: Instruction) -> Iterator[str]:
    """The parts of ``instruction`` in which variables are replaced."""
    match instruction:
        case ast.Env() | ast.Label():
            for key, value in instruction.pairs:
                yield from (key, value)
        case ast.Arg():
            yield from (default for _, default in instruction.pairs if default)
        case ast.Copy() | ast.Add():
            yield from instruction.sources
            yield instruction.dest
            yield from filter(None, (instruction.chown, instruction.chmod, *instruction.excludes))
            yield (instruction.from_ if isinstance(instruction, ast.Copy) else instruction.checksum) or ""
        case ast.Run():
            for mount in instruction.mounts:
                yield from (value for _, value in mount.fields if value)
        case ast.Expose():
            yield from instruction.ports
        case ast.Volume():
            yield from instruction.paths
        case ast.Unset():
            yield from instruction.names
        case ast.User():
            yield instruction.user
        case ast.Workdir():
            yield instruction.path
        case ast.Stopsignal():
            yield instruction.signal
