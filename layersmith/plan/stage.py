"""PLAN: one stage. In: its instructions and what FROM begins it with. Out: a `Folded` stage; steps on the planner.

ENV, ARG, WORKDIR, USER and SHELL are folded into each step, so that a step says all that it needs. An instruction
sees the environment as it was before it. Behaviour: BuildKit's frontend/dockerfile/dockerfile2llb.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from layersmith import ops
from layersmith.buildfile import parser, words
from layersmith.buildfile.instructions import (
    Add,
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Include,
    Instruction,
    Label,
    Maintainer,
    Onbuild,
    Run,
    Shell,
    Stopsignal,
    Unset,
    User,
    Volume,
    Workdir,
)
from layersmith.buildfile.suggest import nearest
from layersmith.dataclass import dataclass, replace
from layersmith.errors import BuildfileError, PlanError, located
from layersmith.image import Image
from layersmith.oci.config import Healthcheck as HealthcheckConfig
from layersmith.oci.config import ImageConfig
from layersmith.oci.platform import Platform
from layersmith.oci.process import DEFAULT_PATH
from layersmith.plan import lower, values
from layersmith.plan.arguments import NOT_IN_ENVIRONMENT
from layersmith.plan.model import PlanHistory, PlanOptions, Step

if TYPE_CHECKING:
    from layersmith.plan.planner import Planner


@dataclass(slots=True)
class Folded:
    """A stage once folded: where its files are, and what a stage that builds on it inherits."""

    step: int
    base: Image
    config: ImageConfig
    env: dict[str, str]
    platform: Platform
    arguments: tuple[tuple[str, str | None], ...] = ()
    history: tuple[PlanHistory, ...] = ()


def fold_stage(planner: Planner, index: int, start: Folded) -> Folded:
    """Fold stage ``index`` on top of ``start``, the base's ONBUILD triggers first."""
    fold = _Fold(planner, index, start)
    for trigger in fold.take_triggers():
        fold.dispatch(trigger)
    for instruction in planner.stages[index].instructions:
        fold.dispatch(instruction)
    return fold.folded()


class _Fold:
    """A stage while its instructions are folded, one after the other."""

    def __init__(self, planner: Planner, index: int, start: Folded) -> None:
        self.planner = planner
        self.index = index
        self.label = planner.stage_label(index)
        self.start = start
        self.step = start.step
        self.config = start.config
        self.env = start.env
        self.arguments = list(start.arguments)
        self.history = list(start.history)
        self.cmd_here = False
        self.span = planner.stages[index].from_.span
        filters = {name.lower() for name in planner.options.no_cache_stages}
        self.no_cache = bool(filters & {self.label, str(index)})
        if "PATH" not in self.env:
            self.env["PATH"] = DEFAULT_PATH
            self.config = replace(self.config, env=(*self.config.env, f"PATH={DEFAULT_PATH}"))

    def folded(self) -> Folded:
        return Folded(
            self.step,
            self.start.base,
            self.config,
            self.env,
            self.start.platform,
            tuple(self.arguments),
            tuple(self.history),
        )

    def take_triggers(self) -> list[Instruction]:
        texts, self.config = self.config.on_build, replace(self.config, on_build=())
        triggers = []
        for text in texts:
            try:
                triggers.append(parser.parse_onbuild(text))
            except BuildfileError as error:
                raise PlanError(
                    f"the base's ONBUILD trigger does not parse: {text}",
                    hint=error.message,
                    span=self.planner.stages[self.index].from_.span,
                ) from None
        return triggers

    # Words

    @property
    def options(self) -> PlanOptions:
        return self.planner.options

    def expand(self, text: str) -> str:
        unset: set[str] = set()
        result = words.expand(text, self.env, escape=self.planner.escape, unset=unset)
        self.warn_unset(unset)
        return result

    def expand_heredoc(self, body: str) -> str:
        unset: set[str] = set()
        result = words.expand_heredoc(body, self.env, unset=unset)
        self.warn_unset(unset)
        return result

    def warn_unset(self, unset: set[str]) -> None:
        for name in sorted(unset):
            meant = nearest(name, self.env)
            hint = f" (did you mean ${meant}?)" if meant else ""
            self.planner.warnings.append(f"{self.span}: the variable ${name} is not set{hint}")

    # Instructions

    def dispatch(self, instruction: Instruction) -> None:
        """Fold one instruction; errors get its place, and do not keep the next ones from being looked at."""
        self.span = instruction.span
        try:
            with located(instruction.span):
                self.fold(instruction)
        except BuildfileError as error:
            self.planner.mistakes.append(error)

    def fold(self, instruction: Instruction) -> None:
        match instruction:
            case Run():
                self.run(instruction)
            case Copy():
                self.layer(lower.copy_op(self, instruction), instruction, f"{instruction.text} # buildkit")
            case Add():
                self.layer(lower.add_op(self, instruction), instruction, f"{instruction.text} # buildkit")
            case Workdir():
                self.workdir(instruction)
            case Env():
                self.set_env(instruction)
            case Arg():
                self.arg(instruction)
            case Label():
                pairs = [(self.expand(k), self.expand(v)) for k, v in instruction.pairs]
                self.configure(instruction, labels=tuple((dict(self.config.labels) | dict(pairs)).items()))
            case Cmd():
                self.cmd_here = True
                self.configure(
                    instruction,
                    cmd=lower.argv(self, instruction.command),
                    args_escaped=instruction.command.shell,
                )
            case Entrypoint():
                self.entrypoint(instruction)
            case Expose():
                self.expose(instruction)
            case Volume():
                self.volume(instruction)
            case User():
                self.configure(instruction, user=self.expand(instruction.user))
            case Shell():
                self.configure(instruction, shell=instruction.args)
            case Stopsignal():
                signal = values.stop_signal(self.expand(instruction.signal))
                self.configure(instruction, stop_signal=signal)
            case Healthcheck():
                self.healthcheck(instruction)
            case Onbuild():
                self.configure(instruction, on_build=(*self.config.on_build, instruction.trigger))
            case Maintainer():
                self.configure(instruction, author=instruction.name)
            case Unset():
                self.unset(instruction)
            case Include():
                raise PlanError(f"INCLUDE {instruction.path} was not resolved before planning")
            case _:
                raise PlanError(f"{instruction.keyword} can't stand here")

    def configure(self, instruction: Instruction, **changes: object) -> None:
        """Change the config and note the instruction in the history, without a layer."""
        self.config = replace(self.config, **changes)  # type: ignore[arg-type]
        self.note(instruction.text)

    def note(self, text: str, step: int | None = None) -> None:
        self.history.append(PlanHistory(step, text))

    def layer(
        self,
        op: ops.Op,
        instruction: Instruction,
        created_by: str,
        name: str | None = None,
        *,
        no_cache: bool = False,
    ) -> None:
        """A step on top of the last one, which adds a layer to the image."""
        step = Step(
            op,
            self.step,
            name=name or instruction.text,
            created_by=created_by,
            stage=self.label,
            platform=self.start.platform,
            span=instruction.span,
            no_cache=no_cache or self.no_cache,
            arguments=tuple(dict.fromkeys(name for name, _ in self.arguments)),
        )
        self.step = self.planner.steps.add(step)
        self.note(created_by, self.step)

    # Config

    def set_env(self, instruction: Env) -> None:
        pairs = [(self.expand(k), self.expand(v)) for k, v in instruction.pairs]
        for name, _ in pairs:
            if not name:
                raise PlanError("ENV names can not be blank")
        config = dict(e.partition("=")[::2] for e in self.config.env) | dict(pairs)
        self.env.update(pairs)
        self.configure(instruction, env=tuple(f"{k}={v}" for k, v in config.items()))

    def arg(self, instruction: Arg) -> None:
        """A later ARG wins over an earlier ENV in RUN and in words; the config keeps ENV's value, as in BuildKit."""
        given = self.planner.options.build_args
        for name, default in instruction.pairs:
            if name in given:
                value: str | None = given[name]
            elif default is not None:
                value = self.expand(default)
            else:
                value = self.planner.globals.get(name)
            if value is not None and name not in NOT_IN_ENVIRONMENT:
                self.env[name] = value
            self.arguments.append((name, value))
        self.note(instruction.text)

    def entrypoint(self, instruction: Entrypoint) -> None:
        if not self.cmd_here:
            self.config = replace(self.config, cmd=None)
        self.configure(instruction, entrypoint=lower.argv(self, instruction.command) or None)

    def expose(self, instruction: Expose) -> None:
        found = set(self.config.exposed_ports)
        for word in instruction.ports:
            unset: set[str] = set()
            for port in words.expand_words(word, self.env, escape=self.planner.escape, unset=unset):
                found.update(values.ports(port))
            self.warn_unset(unset)
        self.configure(instruction, exposed_ports=tuple(sorted(found)))

    def volume(self, instruction: Volume) -> None:
        paths = [self.expand(path) for path in instruction.paths]
        if not all(paths):
            raise PlanError("VOLUME specified can not be an empty string")
        self.configure(instruction, volumes=tuple(sorted({*self.config.volumes, *paths})))

    def healthcheck(self, instruction: Healthcheck) -> None:
        if instruction.none or instruction.command is None:
            health = HealthcheckConfig(test=("NONE",))
        else:
            health = HealthcheckConfig(
                test=("CMD-SHELL" if instruction.command.shell else "CMD", *instruction.command.args),
                interval_ns=instruction.interval,
                timeout_ns=instruction.timeout,
                start_period_ns=instruction.start_period,
                start_interval_ns=instruction.start_interval,
                retries=instruction.retries,
            )
        self.configure(instruction, healthcheck=health)

    def unset(self, instruction: Unset) -> None:
        names = {self.expand(name) for name in instruction.names}
        match instruction.kind:
            case "ENV":
                for name in names:
                    self.env.pop(name, None)
                kept = tuple(e for e in self.config.env if e.partition("=")[0] not in names)
                self.configure(instruction, env=kept)
            case "LABEL":
                self.configure(
                    instruction, labels=tuple((k, v) for k, v in self.config.labels if k not in names)
                )
            case "EXPOSE":
                gone = {port for name in names for port in values.ports(name)}
                self.configure(
                    instruction, exposed_ports=tuple(p for p in self.config.exposed_ports if p not in gone)
                )
            case _:
                self.configure(instruction, volumes=tuple(v for v in self.config.volumes if v not in names))

    # Steps

    def workdir(self, instruction: Workdir) -> None:
        path = values.working_dir(self.config.working_dir, self.expand(instruction.path))
        self.config = replace(self.config, working_dir=path)
        if path == "/":
            self.note(f"WORKDIR {path}")
        else:
            self.layer(ops.MkdirOp(path, self.config.user), instruction, f"WORKDIR {path}")

    def run(self, instruction: Run) -> None:
        op = lower.exec_op(self, instruction)
        shown = [f"{name}={value}" for name, value in self.arguments if value is not None]
        prefix = f"|{len(shown)} {' '.join(shown)} " if shown else ""
        created_by = f"RUN {prefix}{' '.join(op.process.args)} # buildkit"
        self.layer(op, instruction, created_by, no_cache=instruction.no_cache)

    def input(self, name: str | None) -> ops.Input:
        """What ``--from=name`` means here; None is the build context."""
        if name is None:
            return ops.ContextInput()
        return self.planner.input(name, current=self.index, platform=self.start.platform, span=self.span)
