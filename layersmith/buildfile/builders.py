"""PARSE: from what the grammar found to typed instructions. In: `Form` and heredocs. Out: an `Instruction`.

One function a grammar rule. What they raise is `BuildfileSyntaxError`, on the word that is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from layersmith.buildfile import instructions as ast
from layersmith.buildfile.expansion import SPACE
from layersmith.buildfile.instructions import Heredoc, Instruction, MountFlag
from layersmith.buildfile.lines import LogicalLine
from layersmith.buildfile.reading import Reading, first_word
from layersmith.buildfile.suggest import shown
from layersmith.buildfile.syntax import Form, Word
from layersmith.buildfile.values import SECOND
from layersmith.errors import BuildfileSyntaxError
from layersmith.source import Span

NETWORKS = ("default", "none", "host")
SECURITIES = ("sandbox", "insecure")

_STAGE_NAME = re.compile(r"[a-z][a-z0-9\-_.]*")


def build(form: Form, line: LogicalLine, span: Span, heredocs: tuple[Heredoc, ...]) -> Instruction:
    """The instruction that ``form`` is, with the bodies of the heredocs it opens. Raises `BuildfileSyntaxError`."""
    return _BUILDERS[form.rule](Reading(form, line, span, heredocs))


def may_open_heredocs(text: str, form: Form | None) -> bool:
    """RUN, COPY and ADD may, unless in JSON form; ``form`` is None where the line is wrong."""
    while form and form.inner:
        form = form.inner
    json_form = form is not None and any(word.kind == "JSON" for word in form.words)
    return not json_form and _keyword(text) in ("run", "copy", "add")


def is_shell_text(text: str) -> bool:
    """Is most of this line a command, one word to the grammar?"""
    return _keyword(text) in ("run", "cmd", "entrypoint", "healthcheck")


def reads_words(text: str) -> bool:
    """Do quotes and escapes make words here, so that ``# escape=`` matters to the grammar?"""
    return _keyword(text) in ("env", "label", "arg")


def _keyword(text: str) -> str:
    """The instruction's name in lower case; behind ONBUILD the trigger's."""
    first, rest = first_word(text)
    if first.lower() == "onbuild":
        first = first_word(rest.lstrip(SPACE))[0]
    return first.lower()


def check_trigger(instruction: Instruction) -> None:
    """Raise `BuildfileSyntaxError` for what no ONBUILD may hold."""
    if isinstance(instruction, ast.From | ast.Maintainer | ast.Onbuild | ast.Include):
        raise BuildfileSyntaxError(
            f"{type(instruction).__name__.upper()} isn't allowed as an ONBUILD trigger", span=instruction.span
        )


def _from(b: Reading) -> Instruction:
    base, *name = b.form.words
    if name and not _STAGE_NAME.fullmatch(name[0].text.lower()):
        raise b.error(
            f"invalid name for build stage: {shown(name[0].text)}",
            name[0],
            hint="a name begins with a letter and has only letters, digits, - _ and .",
        )
    stage = name[0].text.lower() if name else None
    return ast.From(base.text, stage, b.option("--platform"), **b.base)


def _run(b: Reading) -> Instruction:
    command = b.command()
    if not command.args:
        raise b.error("RUN [] names no command")
    for word, value in b.flags.get("--device", ()):
        if not value:
            raise b.error("missing a value on flag: --device", word)
    return ast.Run(
        command,
        mounts=tuple(_mount(b, word, value or "") for word, value in b.flags.get("--mount", ())),
        network=b.checked("--network", NETWORKS),
        security=b.checked("--security", SECURITIES),
        devices=b.options("--device"),
        no_cache=bool(b.switch("--no-cache")),
        retry=b.count("--retry", 1000),
        timeout=b.duration("--timeout") / SECOND,
        **b.base,
    )


def _mount(b: Reading, word: Word, value: str) -> MountFlag:
    try:
        fields = _csv(value)
    except ValueError as error:
        raise b.error(f"flag --mount: {error}", word, hint="write --mount=type=cache,target=/path") from None
    pairs = (field.partition("=") for field in fields)
    span = b.line.span(word.start, word.end)
    return MountFlag(tuple((key.lower(), text if equals else None) for key, equals, text in pairs), span)


def _csv(text: str) -> list[str]:
    if '"' not in text:
        if not text:
            raise ValueError("it is empty")
        return text.split(",")
    import csv  # 3 ms, for quotes that had to be escaped twice

    try:
        return next(csv.reader([text], strict=True))
    except csv.Error as error:
        raise ValueError(f"{shown(text)} is not comma-separated: {error}") from None


def _healthcheck(b: Reading) -> Instruction:
    if b.form.words[0].kind == "NONE":
        return ast.Healthcheck(none=True, **b.base)
    command = b.command()
    if not command.args:
        raise b.error("missing command after HEALTHCHECK CMD")
    return ast.Healthcheck(
        none=False,
        command=command,
        interval=b.duration("--interval"),
        timeout=b.duration("--timeout"),
        start_period=b.duration("--start-period"),
        start_interval=b.duration("--start-interval"),
        retries=b.count("--retries", (1 << 31) - 1),
        **b.base,
    )


def _copy(b: Reading) -> Instruction:
    sources, dest, heredocs = b.sources_and_dest()
    return ast.Copy(
        sources,
        dest,
        heredocs,
        from_=b.option("--from"),
        chown=b.option("--chown"),
        chmod=b.option("--chmod"),
        link=bool(b.switch("--link")),
        parents=bool(b.switch("--parents")),
        excludes=b.options("--exclude"),
        **b.base,
    )


def _add(b: Reading) -> Instruction:
    sources, dest, heredocs = b.sources_and_dest()
    return ast.Add(
        sources,
        dest,
        heredocs,
        chown=b.option("--chown"),
        chmod=b.option("--chmod"),
        link=bool(b.switch("--link")),
        excludes=b.options("--exclude"),
        checksum=b.option("--checksum"),
        keep_git_dir=b.switch("--keep-git-dir"),
        unpack=b.switch("--unpack"),
        **b.base,
    )


def _pairs(b: Reading) -> tuple[tuple[tuple[str, str], ...], bool]:
    """(key, value) pairs, and whether they are in the legacy form ``key rest of the line``."""
    first = b.form.words[0]
    if first.kind in ("KEY", "ANY_KEY"):
        return ((first.text, b.form.words[1].text),), True
    return tuple((_named(b, word), word.text.partition("=")[2]) for word in b.form.words), False


def _named(b: Reading, word: Word) -> str:
    name = word.text.partition("=")[0]
    if not name:
        raise b.error(f"{b.form.rule.upper()} names can not be blank", word)
    return name


def _arg(b: Reading) -> Instruction:
    pairs = []
    for word in b.form.words:
        _, equals, default = word.text.partition("=")
        pairs.append((_named(b, word), default if equals else None))
    return ast.Arg(tuple(pairs), **b.base)


def _env(b: Reading) -> Instruction:
    pairs, legacy = _pairs(b)
    return ast.Env(pairs, legacy, **b.base)


def _label(b: Reading) -> Instruction:
    pairs, legacy = _pairs(b)
    return ast.Label(pairs, legacy, **b.base)


def _volume(b: Reading) -> Instruction:
    paths = tuple(path.strip(SPACE) for path in b.words())
    if not paths:
        raise b.error("VOLUME requires at least one argument")
    if not all(paths):
        raise b.error("VOLUME specified can not be an empty string")
    return ast.Volume(paths, **b.base)


def _shell(b: Reading) -> Instruction:
    args = b.words()
    if not args:
        raise b.error("SHELL requires at least one argument")
    return ast.Shell(args, **b.base)


def _onbuild(b: Reading) -> Instruction:
    inner = b.form.inner
    assert inner
    build(inner, b.line, b.base["span"], b.heredocs)
    _, rest = first_word(b.line.text)
    if rest.startswith("--"):
        rest = first_word(rest)[1]
    trigger = rest.lstrip(SPACE) + "".join(f"\n{heredoc.raw}{heredoc.name}" for heredoc in b.heredocs)
    return ast.Onbuild(trigger, **b.base)


def _unset(b: Reading) -> Instruction:
    kind, *names = b.form.words
    return ast.Unset(kind.text.upper(), tuple(word.text for word in names), **b.base)


_BUILDERS: dict[str, Callable[[Reading], Instruction]] = {
    "from": _from,
    "run": _run,
    "cmd": lambda b: ast.Cmd(b.command(), **b.base),
    "entrypoint": lambda b: ast.Entrypoint(b.command(), **b.base),
    "healthcheck": _healthcheck,
    "shell": _shell,
    "copy": _copy,
    "add": _add,
    "env": _env,
    "label": _label,
    "arg": _arg,
    "expose": lambda b: ast.Expose(b.words(), **b.base),
    "volume": _volume,
    "user": lambda b: ast.User(b.text(), **b.base),
    "workdir": lambda b: ast.Workdir(b.text(), **b.base),
    "stopsignal": lambda b: ast.Stopsignal(b.text(), **b.base),
    "maintainer": lambda b: ast.Maintainer(b.text(), **b.base),
    "onbuild": _onbuild,
    "include": lambda b: ast.Include(b.text(), **b.base),
    "unset": _unset,
}
