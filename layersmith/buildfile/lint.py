"""PARSE: ``layersmith check``. In: a parsed Buildfile, and what is known of its context. Out: findings, in line order.

``# check=`` directives are honoured, and so is a ``# check=skip=…`` among the comments right before an instruction.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping

from layersmith.buildfile import checks
from layersmith.buildfile import instructions as ast
from layersmith.buildfile.checks import Result
from layersmith.buildfile.instructions import Arg, Buildfile, Check, From, Instruction, Stage
from layersmith.buildfile.lines import DIRECTIVE, read_check
from layersmith.buildfile.parser import Item, take_apart
from layersmith.buildfile.rules import RULES, Finding, finding
from layersmith.buildfile.scope import (
    PREDEFINED_ARGS,
    BaseEnv,
    Scope,
    expanded,
    global_scope,
    undefined_variables,
)
from layersmith.buildfile.suggest import nearest
from layersmith.dataclass import dataclass, field
from layersmith.errors import BuildfileSyntaxError
from layersmith.source import Span

LONGEST_LINE = 65_535
"""Characters that BuildKit takes on one line of the file."""


@dataclass(frozen=True, slots=True)
class LintOptions:
    """What is known beside the text.

    ``dialect`` is ``layersmith`` or ``dockerfile`` (extensions are errors). ``check`` replaces the file's own
    ``# check=`` (BUILDKIT_DOCKERFILE_CHECK). ``ignored`` tells if a path of the context is hidden by its .dockerignore;
    leave it out where that has ``!`` patterns. ``base_env`` gives an image's ENV where it is at hand.
    """

    dialect: str = "layersmith"
    build_args: Mapping[str, str] = field(default_factory=dict)
    check: Check | None = None
    ignored: Callable[[str], bool] | None = None
    base_env: BaseEnv = lambda base: None


def lint(buildfile: Buildfile, options: LintOptions | None = None) -> tuple[Finding, ...]:
    """All findings in ``buildfile``, by line. INCLUDEs are not followed: check each file by itself."""
    options = options or LintOptions()
    linter = _Linter(buildfile, options)
    check = options.check or buildfile.directives.check or Check()
    found = [
        finding(result.rule, result.span, *result.found, error=check.error)
        for result in linter.results()
        if _wanted(result.rule, check, linter.skipped_at(result.span))
    ]
    return tuple(sorted(found, key=lambda f: (f.span.line, f.span.column, f.rule, f.message)))


def _wanted(name: str, check: Check, skipped: Iterable[str]) -> bool:
    if name in skipped or "all" in skipped:
        return False
    if RULES[name].experimental:
        return check.experimental_all or name in check.experimental
    return not check.skip_all and name not in check.skip


class _Linter:
    def __init__(self, buildfile: Buildfile, options: LintOptions) -> None:
        self.buildfile = buildfile
        self.options = options
        self.escape = buildfile.directives.escape
        self.items = take_apart(buildfile.source).items
        self.globals: tuple[Arg, ...]
        self.stages: tuple[Stage, ...]
        self.globals, self.stages = _stages(buildfile.instructions)

    def skipped_at(self, span: Span) -> tuple[str, ...]:
        """Rules that the comments before the instruction at ``span`` turn off."""
        index = bisect_right(self.items, span.line, key=lambda item: item.line.line) - 1
        return tuple(_skips(self.items[index])) if index >= 0 else ()

    def results(self) -> Iterator[Result]:
        yield from self.casing()
        yield from self.from_lines()
        for item in self.items:
            yield from self.line(item)
            yield from checks.check_instruction(item.instruction)
        for stage in self.stages:
            yield from checks.check_repeated(stage)
            yield from checks.check_arg_after_env(stage)
        yield from self.inherited()
        yield from self.variables()
        yield from self.copies()
        if self.options.dialect == "dockerfile":
            yield from self.extensions()

    # The text

    def casing(self) -> Iterator[Result]:
        keywords = [instruction.keyword for instruction in self.buildfile.instructions]
        lower = sum(keyword.islower() for keyword in keywords)
        upper = sum(keyword.isupper() for keyword in keywords)
        majority, as_majority = ("lowercase", str.lower) if lower > upper else ("uppercase", str.upper)
        for instruction in self.buildfile.instructions:
            if as_majority(instruction.keyword) != instruction.keyword:
                yield Result("ConsistentInstructionCasing", instruction.span, (instruction.keyword, majority))

    def line(self, item: Item) -> Iterator[Result]:
        for number in item.line.empty_lines:
            yield Result("NoEmptyContinuation", Span(item.line.source, number, 1, number, 2))
        yield from checks.check_description(item)
        first = item.form.words[0] if item.form.words else None
        if first and first.kind != "JSON" and checks.looks_like_json(item, first.text):
            read_as = "a command of the shell" if item.form.rule not in ("copy", "add", "volume") else "words"
            span = item.line.span(first.start, first.start + 1)
            yield Result("InvalidJSONForm", span, (item.form.rule.upper(), read_as))

    # FROM

    def from_lines(self) -> Iterator[Result]:
        values = {
            **dict.fromkeys(PREDEFINED_ARGS, ""),
            **global_scope(self.globals, self.options.build_args, self.escape),
        }
        defaults = {**dict.fromkeys(PREDEFINED_ARGS, ""), **global_scope(self.globals, {}, self.escape)}
        declared = {name for arg in self.globals for name, _ in arg.pairs} | set(PREDEFINED_ARGS)
        seen: set[str] = set()
        for stage in self.stages:
            start = stage.from_
            yield from checks.check_stage_name(start)
            if stage.name in seen:
                yield Result("DuplicateStageName", start.span, (stage.name or "",))
            seen.add(stage.name or "")
            unset: set[str] = set()
            for text in (start.base, start.platform or ""):
                expanded(text, values, self.escape, unset)
            for name in sorted(unset - declared):
                yield Result("UndefinedArgInFrom", start.span, (name, _suggestion(nearest(name, declared))))
            if (
                "$" in start.base
                and not unset - declared
                and not checks.is_reference(expanded(start.base, defaults, self.escape))
            ):
                yield Result("InvalidDefaultArgInFrom", start.span, (start.base,))
            yield from checks.check_platform(start)

    # Stages

    def inherited(self) -> Iterator[Result]:
        """WORKDIR and SHELL, which a stage has from the stage that it is built on."""
        rooted: set[str] = set()
        shelled: set[str] = set()
        for index, stage in enumerate(self.stages):
            base = stage.from_.base.lower()
            absolute, shell = base in rooted, base in shelled
            for instruction in stage.instructions:
                match instruction:
                    case ast.Workdir(path=path):
                        if not absolute and not path.strip("\"'").startswith(("/", "$")):
                            yield Result("WorkdirRelativePath", instruction.span, (path,))
                        absolute = absolute or path.strip("\"'").startswith(("/", "$"))
                    case ast.Shell():
                        shell = True
                    case ast.Cmd(command=command) | ast.Entrypoint(command=command):
                        if command.shell and not shell:
                            name = type(instruction).__name__.upper()
                            yield Result("JSONArgsRecommended", instruction.span, (name,))
            names = {str(index), stage.name or ""} - {""}
            rooted |= names if absolute else set()
            shelled |= names if shell else set()

    def variables(self) -> Iterator[Result]:
        found = undefined_variables(
            self.globals,
            self.stages,
            escape=self.escape,
            build_args=self.options.build_args,
            base_env=self.options.base_env,
        )
        for instruction, name, similar in found:
            suggestion = _suggestion("$" + similar if similar else None)
            yield Result("UndefinedVar", instruction.span, (name, suggestion))

    def copies(self) -> Iterator[Result]:
        if not self.options.ignored:
            return
        for stage in self.stages:
            scope = Scope()
            for instruction in stage.instructions:
                if isinstance(instruction, ast.Add) or (
                    isinstance(instruction, ast.Copy) and instruction.from_ is None
                ):
                    verb = "Add" if isinstance(instruction, ast.Add) else "Copy"
                    for source in instruction.sources:
                        path = expanded(source, scope.env, self.escape).strip("/")
                        if path not in ("", ".") and "://" not in path and self.options.ignored(path):
                            yield Result("CopyIgnoredFile", instruction.span, (verb, path))
                scope.apply(instruction, self.escape, {}, self.options.build_args)

    # The dialect of other builders

    def extensions(self) -> Iterator[Result]:
        for item in self.items:
            instruction = item.instruction
            for what in checks.extensions(instruction):
                yield Result("DockerfileDialect", instruction.span, (what,))
        for number, text in enumerate(self.buildfile.source.text.split("\n"), start=1):
            if len(text) > LONGEST_LINE:
                span = Span(self.buildfile.source, number, 1, number, len(text) + 1)
                yield Result("DockerfileDialect", span, (f"a line of more than {LONGEST_LINE} characters",))


def _stages(instructions: tuple[Instruction, ...]) -> tuple[tuple[Arg, ...], tuple[Stage, ...]]:
    """Like `parser.stages`, but a fragment's instructions before any FROM are in no stage, and no error."""
    globals_: list[Arg] = []
    found: list[tuple[From, list[Instruction]]] = []
    for instruction in instructions:
        if isinstance(instruction, From):
            found.append((instruction, []))
        elif found:
            found[-1][1].append(instruction)
        elif isinstance(instruction, Arg):
            globals_.append(instruction)
    return tuple(globals_), tuple(Stage(first.name, first, tuple(rest)) for first, rest in found)


def _skips(item: Item) -> Iterator[str]:
    for comment in item.line.comments:
        match = DIRECTIVE.fullmatch(comment.text)
        if match and match[1].lower() == "check":
            try:
                check = read_check(match[2], item.instruction.span)
            except BuildfileSyntaxError:
                continue
            yield from ("all",) if check.skip_all else check.skip


def _suggestion(name: str | None) -> str:
    return f" (did you mean {name}?)" if name else ""
