"""PLAN: from stages to steps. In: a Buildfile, options, bases. Out: the `Plan` of the target stage.

Stages are folded on demand, starting at the target: what nobody reaches is never looked at. `stage.py` folds a
single one; here is what stages know of each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from layersmith import ops
from layersmith.buildfile.instructions import Arg, Buildfile, Stage
from layersmith.buildfile.parser import stages as split_stages
from layersmith.buildfile.suggest import nearest
from layersmith.buildfile.words import expand
from layersmith.dataclass import replace
from layersmith.errors import BuildfileError, LayersmithError, PlanError, UsageError, located
from layersmith.image import SCRATCH, Image
from layersmith.oci.platform import Platform, matches, parse_platform
from layersmith.plan.arguments import PROXIES, global_arguments, platform_arguments
from layersmith.plan.mistakes import Until
from layersmith.plan.model import Bases, Plan, PlanHistory, PlanOptions, Step
from layersmith.plan.stage import Folded, fold_stage
from layersmith.plan.steps import Steps
from layersmith.source import Span


def plan(buildfile: Buildfile, options: PlanOptions, bases: Bases) -> Plan:
    """The steps of the target stage and of all that it needs.

    Raises `BuildfileError` for what the file gets wrong, with ``others``, and what ``bases`` raises for images.
    """
    return plan_platforms(buildfile, options, (options.platform,), bases)[0]


def plan_platforms(
    buildfile: Buildfile, options: PlanOptions, platforms: Sequence[Platform], bases: Bases
) -> tuple[Plan, ...]:
    """A plan for each of ``platforms``; all hold the same steps, so that they are solved as one.

    What does not depend on the platform (``FROM --platform=$BUILDPLATFORM``) is there once. Raises as `plan`.
    """
    shared = Steps()
    plans = []
    for platform in platforms:
        plans.append(Planner(buildfile, replace(options, platform=platform), bases, shared).plan())
    steps = shared.with_display_names(several=len(plans) > 1)
    return tuple(replace(planned, steps=steps) for planned in plans)


class Planner:
    """The state of planning for one platform: the stages folded so far, the arguments seen; ``steps`` are shared."""

    def __init__(self, buildfile: Buildfile, options: PlanOptions, bases: Bases, steps: Steps) -> None:
        self.escape = buildfile.directives.escape
        self.options = options
        self.bases: Bases = bases
        declared, self.stages = split_stages(buildfile)
        self.globals = global_arguments(declared, options, self.escape)
        self.declared = {name for arg in declared for name, _ in arg.pairs}
        self.steps = steps
        self.warnings: list[str] = []
        self.mistakes: list[BuildfileError] = []
        """Found so far; what stands after them is still looked at."""
        self._folded: dict[int, Folded] = {}
        self._folding: list[int] = []

    def plan(self) -> Plan:
        self.bases = until = Until(self.bases, self.mistakes)
        target = self._target()
        with until.together():
            folded = self.fold(target)
        self._warn_of_unused_arguments()
        config = replace(
            folded.config,
            labels=tuple((dict(folded.config.labels) | dict(self.options.labels)).items()),
        )
        return Plan(
            steps=tuple(self.steps.steps),
            final=folded.step,
            config=config,
            history=folded.history,
            images=self.steps.images,
            base=folded.base,
            warnings=tuple(self.warnings),
        )

    # Stages

    def _target(self) -> int:
        if self.options.target is None:
            return len(self.stages) - 1
        found = self.find_stage(self.options.target, before=len(self.stages))
        if found is None:
            names = [s.name for s in self.stages if s.name]
            import difflib

            near = difflib.get_close_matches(self.options.target.lower(), names, 1)
            raise PlanError(
                f"target stage {self.options.target!r} could not be found",
                hint=f"did you mean {near[0]}?"
                if near
                else f"the stages are: {', '.join(names) or 'unnamed'}",
            )
        return found

    def find_stage(self, name: str, *, before: int) -> int | None:
        """The index of the last stage called ``name`` (in any case), or numbered so, of the first ``before``."""
        for index in range(before - 1, -1, -1):
            if self.stages[index].name == name.lower():
                return index
        if name.isdigit() and int(name) < before:
            return int(name)
        return None

    def stage_label(self, index: int) -> str:
        """What progress calls a stage: its name, or ``stage-N`` where there are several."""
        return self.stages[index].name or (f"stage-{index}" if len(self.stages) > 1 else "")

    def fold(self, index: int) -> Folded:
        """The stage ``index``, folded once."""
        if index not in self._folded:
            self._folding.append(index)
            try:
                self._folded[index] = fold_stage(self, index, self._start(index))
            except BuildfileError as error:
                self.mistakes.append(error)
                raise
            finally:
                self._folding.pop()
        return self._folded[index]

    def _start(self, index: int) -> Folded:
        """What FROM gives the stage to begin with."""
        stage = self.stages[index]
        with located(stage.from_.span):
            name = self._expanded_base(stage)
            platform = self._platform(stage)
            named = self.bases.context(name, platform)
            if named is not None:
                return self.start_from_context(name, named, platform, stage.from_.span)
            found = self.find_stage(name, before=index) if not name.isdigit() else None
            if found is not None:
                parent = self.fold(found)
                return replace(parent, env=dict(parent.env))
            if name.lower() == "scratch":
                return self.start_from_image(name, SCRATCH(platform), platform, stage.from_.span)
            if any(s.name == name.lower() for s in self.stages[index:]):
                self.warnings.append(
                    f"{stage.from_.span}: FROM {name} names an image, for the stage of that name comes later"
                )
            with self._maybe_a_stage(name, index):
                image = self.bases.image(name, platform)
            if not matches(platform, image.config.platform):
                self._warn_of_platform(name, image.config.platform, platform, stage.from_.span)
            return self.start_from_image(name, image, platform, stage.from_.span)

    def _warn_of_platform(self, name: str, found: Platform, wanted: Platform, span: Span) -> None:
        """The one rule of ``layersmith check`` that only a build can look after."""
        from layersmith.buildfile.rules import finding

        said = finding("InvalidBaseImagePlatform", span, name, str(found), str(wanted))
        self.warnings.append(f"{span}: {said.rule}: {said.message}")

    def _expanded_base(self, stage: Stage) -> str:
        unset: set[str] = set()
        name = expand(stage.from_.base, self.globals, escape=self.escape, unset=unset)
        if not name:
            missing = ", ".join(sorted(unset))
            raise PlanError(
                f"base name ({stage.from_.base}) should not be blank",
                hint=f"give {missing} a default with ARG before the first FROM, or pass --build-arg {missing}=…"
                if missing
                else "",
            )
        return name

    def _platform(self, stage: Stage) -> Platform:
        if stage.from_.platform is None:
            return self.options.platform
        text = expand(stage.from_.platform, self.globals, escape=self.escape)
        if not text:
            raise PlanError(f"empty platform value from expression {stage.from_.platform}")
        try:
            return parse_platform(text)
        except UsageError as error:
            raise PlanError(error.message, hint=error.hint) from None

    def start_from_image(self, name: str, image: Image, platform: Platform, span: Span) -> Folded:
        step = self.source_step(name, image, span)
        env = dict(entry.partition("=")[::2] for entry in image.config.env)
        return Folded(
            step,
            image,
            replace(image.config, history=(), diff_ids=()),
            env,
            platform,
        )

    def start_from_context(
        self, name: str, context: Image | ops.ContextInput, platform: Platform, span: Span
    ) -> Folded:
        """FROM a ``--build-context``: an image as if FROM had named it, a directory as if copied to scratch."""
        if isinstance(context, Image):
            return self.start_from_image(name, context, platform, span)
        scratch = self.start_from_image("scratch", SCRATCH(platform), platform, span)
        copy = ops.CopyOp((ops.PathSource("/", context),), "/")
        step = self.steps.add(
            Step(copy, scratch.step, name=f"FROM {name}", created_by=f"FROM {name}", span=span)
        )
        return replace(scratch, step=step, history=(PlanHistory(step, f"FROM {name}"),))

    # Steps

    def source_step(self, name: str, image: Image, span: Span | None) -> int:
        op = ops.SourceOp(tuple(layer.diff_id for layer in image.layers), name)
        index = self.steps.add(Step(op, None, name=f"FROM {name}", span=span))
        self.steps.images[index] = image
        return index

    def input(self, name: str, *, current: int, platform: Platform, span: Span | None) -> ops.Input:
        """What ``--from=name`` means in stage ``current``: a context, an earlier stage, or an image."""
        named = self.bases.context(name, platform)
        if isinstance(named, ops.ContextInput):
            return named
        if named is not None:
            return ops.StepInput(self.source_step(name, named, span))
        found = self.find_stage(name, before=len(self.stages))
        if found is not None and found >= current:
            earlier = self.find_stage(name, before=current)
            if earlier is None:
                raise PlanError(
                    f"stage {name!r} needs to be defined before current stage"
                    if found > current
                    else f"circular dependency: stage {name!r} copies from itself",
                    hint="move that stage further up; a stage can use only those above it",
                )
            found = earlier
        if found is not None:
            return ops.StepInput(self.fold(found).step)
        if name.isdigit():
            raise PlanError(
                f"invalid stage index {name}", hint=f"before this one there are {current} stage(s), from 0 on"
            )
        if name.lower() == "scratch":
            return ops.StepInput(self.source_step("scratch", SCRATCH(platform), span))
        with self._maybe_a_stage(name, current):
            image = self.bases.image(name, platform)
        return ops.StepInput(self.source_step(name, image, span))

    @contextmanager
    def _maybe_a_stage(self, name: str, before: int) -> Iterator[None]:
        """Where there is no image ``name``, one of the stages may have been meant."""
        try:
            yield
        except LayersmithError as error:
            meant = nearest(name, [stage.name for stage in self.stages[:before] if stage.name])
            if meant:
                error.hint = "; ".join(filter(None, (f"did you mean the stage {meant}?", error.hint)))
            raise

    # The end

    def _warn_of_unused_arguments(self) -> None:
        for stage in self.stages:
            for instruction in stage.instructions:
                if isinstance(instruction, Arg):
                    self.declared.update(name for name, _ in instruction.pairs)
        known = self.declared | set(platform_arguments(self.options)) | set(PROXIES) | {"SOURCE_DATE_EPOCH"}
        unused = sorted(
            name for name in self.options.build_args if name not in known and not name.startswith("BUILDKIT_")
        )
        if unused:
            import difflib

            near = [m for name in unused for m in difflib.get_close_matches(name, sorted(self.declared), 1)]
            hint = f" (did you mean {', '.join(near)}?)" if near else ""
            self.warnings.append(f"one or more build-args {unused} were not consumed{hint}")
