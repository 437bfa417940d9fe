"""PARSE: from what the grammar found to typed instructions. In: `Form` and heredocs. Out: an `Instruction`.

One function a grammar rule. What they raise is `BuildfileSyntaxError`, on the word that is wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from layersmith.buildfile import instructions as ast
from layersmith.buildfile.instructions import Command, Heredoc, Instruction, MountFlag
from layersmith.buildfile.lines import LogicalLine, heredoc_of
from layersmith.buildfile.suggest import did_you_mean, shown
from layersmith.buildfile.syntax import Form, Word
from layersmith.buildfile.values import MILLISECOND, SECOND, parse_duration
from layersmith.errors import BuildfileSyntaxError
from layersmith.source import Span

REPEATABLE = ("--mount", "--exclude", "--device")
NETWORKS = ("default", "none", "host")
SECURITIES = ("sandbox", "insecure")

_BLANKS = "\t\v\f\r "
_STAGE_NAME = re.compile(r"[a-z][a-z0-9\-_.]*")
_QUOTED = re.compile(r"""\\(.?)|'((?:[^'\\]|\\.)*)\\?'?|"((?:[^"\\]|\\.)*)\\?"?""", re.DOTALL)
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def build(form: Form, line: LogicalLine, span: Span, heredocs: tuple[Heredoc, ...]) -> Instruction:
    """The instruction that ``form`` is, with the bodies of the heredocs it opens. Raises `BuildfileSyntaxError`."""
    return _BUILDERS[form.rule](_Builder(form, line, span, heredocs))


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
    first, rest = _cut(text)
    if first.lower() == "onbuild":
        first = _cut(rest)[0]
    return first.lower()


def _cut(text: str) -> tuple[str, str]:
    """The first word of ``text``, and what follows it."""
    match = re.match(r"([^\t\v\f\r ]*)[\t\v\f\r ]*", text)
    assert match
    return match[1], text[match.end() :]


def check_trigger(instruction: Instruction) -> None:
    """Raise `BuildfileSyntaxError` for what no ONBUILD may hold."""
    if isinstance(instruction, ast.From | ast.Maintainer | ast.Onbuild | ast.Include):
        raise BuildfileSyntaxError(
            f"{type(instruction).__name__.upper()} isn't allowed as an ONBUILD trigger", span=instruction.span
        )


class _Builder:
    """A form with the means to read it."""

    def __init__(self, form: Form, line: LogicalLine, span: Span, heredocs: tuple[Heredoc, ...]) -> None:
        self.form = form
        self.line = line
        self.heredocs = heredocs
        self.base: dict[str, Any] = {"span": span, "text": line.text, "keyword": _cut(line.text)[0]}
        self.flags: dict[str, list[tuple[Word, str | None]]] = {}
        for name, value in form.flags:
            given = self.flags.setdefault(name.text, [])
            if given and name.text not in REPEATABLE:
                raise self.error(f"duplicate flag specified: {name.text}", name, hint="give it once")
            given.append((name, None if value is None else _unquoted(value.text[1:])))

    def error(self, message: str, word: Word | None = None, *, hint: str = "") -> BuildfileSyntaxError:
        span = self.line.span(word.start, word.end) if word else self.line.span()
        return BuildfileSyntaxError(message, hint=hint, span=span)

    # Flags

    def option(self, name: str) -> str | None:
        return self.flags[name][0][1] if name in self.flags else None

    def options(self, name: str) -> tuple[str, ...]:
        return tuple(value or "" for _, value in self.flags.get(name, ()))

    def switch(self, name: str) -> bool | None:
        """The value of a boolean flag, bare or ``=true`` or ``=false``; None where it is not given."""
        if name not in self.flags:
            return None
        word, value = self.flags[name][0]
        if value is None or value.lower() == "true":
            return True
        if value.lower() == "false":
            return False
        raise self.error(
            f"expecting boolean value for flag {name}, not {shown(value)}"
            if value
            else f"missing a value on flag: {name}",
            word,
            hint=f"write {name}, {name}=true or {name}=false; variables are not expanded here",
        )

    def checked(self, name: str, known: tuple[str, ...]) -> str | None:
        value = self.option(name)
        if value is None or value in known:
            return value
        raise self.error(
            f"{shown(value)} is no value of flag {name}",
            self.flags[name][0][0],
            hint=did_you_mean(value, known) or "write " + ", ".join(known),
        )

    def duration(self, name: str) -> int:
        """Nanoseconds, 0 where the flag is not given or empty."""
        text = self.option(name)
        if not text:
            return 0
        word = self.flags[name][0][0]
        try:
            value = parse_duration(text)
        except ValueError as error:
            raise self.error(f"flag {name}: {error}", word) from None
        if value and value < MILLISECOND:
            raise self.error(f"flag {name}: {text} is less than 1ms", word, hint="0 stands for the default")
        return value

    def count(self, name: str, most: int) -> int:
        text = self.option(name)
        if not text:
            return 0
        if re.fullmatch(r"\+?[0-9]{1,10}", text) and int(text) <= most:
            return int(text)
        raise self.error(
            f"flag {name}: {shown(text)} is not a number from 0 to {most}", self.flags[name][0][0]
        )

    # Words

    def json(self) -> tuple[str, ...] | None:
        """The strings of a JSON form, None where it is not one. An array of anything but strings is an error."""
        for word in self.form.words:
            if word.kind == "JSON":
                return tuple(_LONE_SURROGATE.sub("\ufffd", text) for text in json.loads(word.text))
        if self.form.words and self.form.words[0].text.startswith("["):
            rest = self.line.text[self.form.words[0].start :]
            try:
                array = json.loads(rest)
            except (ValueError, RecursionError):
                return None
            if isinstance(array, list):
                raise self.error(
                    "a JSON array must hold strings only",
                    self.form.words[0],
                    hint="put quotes around each element",
                )
        return None

    def words(self) -> tuple[str, ...]:
        found = self.json()
        return tuple(word.text for word in self.form.words) if found is None else found

    def text(self) -> str:
        return self.form.words[0].text

    def command(self) -> Command:
        args = self.json()
        written = self.form.words[0].text if self.form.words else ""
        if args is not None:
            return Command(shell=False, args=args, text=written)
        if not self.heredocs:
            return Command(shell=True, args=(written,), text=written)
        script = heredoc_of(written) and self.heredocs[0]
        if script:
            whole = script.body
        else:
            whole = written + "".join(f"\n{heredoc.raw}{heredoc.name}" for heredoc in self.heredocs)
        return Command(shell=True, args=(whole,), heredocs=self.heredocs, text=written, script=script)

    def sources_and_dest(self) -> tuple[tuple[str, ...], str, tuple[Heredoc, ...]]:
        name = self.form.rule.upper()
        found = self.json()
        if found is not None:
            if len(found) < 2:
                raise self.error(f"{name} requires at least two arguments, sources and a destination")
            return found[:-1], found[-1], ()
        *sources, dest = self.form.words
        if not sources:
            raise self.error(f"{name} requires at least two arguments, sources and a destination", dest)
        if dest.kind == "HEREDOC":
            raise self.error(f"{name} cannot accept a heredoc as a destination", dest)
        opened = [word for word in sources if word.kind == "HEREDOC"]
        if len(opened) != len(self.heredocs):
            raise self.error(
                f"the heredocs of this {name} can't be told apart from its words",
                opened[0] if opened else None,
                hint="a quote or a brace on this line is not closed",
            )
        return tuple(word.text for word in sources if word.kind != "HEREDOC"), dest.text, self.heredocs


def _unquoted(text: str) -> str:
    """A flag's value without quotes and escapes."""
    if not any(char in text for char in "\\'\""):
        return text
    return _QUOTED.sub(_unquote, text)


def _unquote(match: re.Match[str]) -> str:
    escaped, single, double = match.groups()
    if escaped is not None:
        return escaped
    return re.sub(r"\\(.)", r"\1", single if single is not None else double)


def _from(b: _Builder) -> Instruction:
    base, *name = b.form.words
    if name and not _STAGE_NAME.fullmatch(name[0].text.lower()):
        raise b.error(
            f"invalid name for build stage: {shown(name[0].text)}",
            name[0],
            hint="a name begins with a letter and has only letters, digits, - _ and .",
        )
    stage = name[0].text.lower() if name else None
    return ast.From(base.text, stage, b.option("--platform"), **b.base)


def _run(b: _Builder) -> Instruction:
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


def _mount(b: _Builder, word: Word, value: str) -> MountFlag:
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


def _healthcheck(b: _Builder) -> Instruction:
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


def _copy(b: _Builder) -> Instruction:
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


def _add(b: _Builder) -> Instruction:
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


def _pairs(b: _Builder) -> tuple[tuple[tuple[str, str], ...], bool]:
    """(key, value) pairs, and whether they are in the legacy form ``key rest of the line``."""
    first = b.form.words[0]
    if first.kind in ("KEY", "ANY_KEY"):
        return ((first.text, b.form.words[1].text),), True
    return tuple((_named(b, word), word.text.partition("=")[2]) for word in b.form.words), False


def _named(b: _Builder, word: Word) -> str:
    name = word.text.partition("=")[0]
    if not name:
        raise b.error(f"{b.form.rule.upper()} names can not be blank", word)
    return name


def _arg(b: _Builder) -> Instruction:
    pairs = []
    for word in b.form.words:
        _, equals, default = word.text.partition("=")
        pairs.append((_named(b, word), default if equals else None))
    return ast.Arg(tuple(pairs), **b.base)


def _env(b: _Builder) -> Instruction:
    pairs, legacy = _pairs(b)
    return ast.Env(pairs, legacy, **b.base)


def _label(b: _Builder) -> Instruction:
    pairs, legacy = _pairs(b)
    return ast.Label(pairs, legacy, **b.base)


def _volume(b: _Builder) -> Instruction:
    paths = tuple(path.strip() for path in b.words())
    if not paths:
        raise b.error("VOLUME requires at least one argument")
    if not all(paths):
        raise b.error("VOLUME specified can not be an empty string")
    return ast.Volume(paths, **b.base)


def _shell(b: _Builder) -> Instruction:
    args = b.words()
    if not args:
        raise b.error("SHELL requires at least one argument")
    return ast.Shell(args, **b.base)


def _onbuild(b: _Builder) -> Instruction:
    inner = b.form.inner
    assert inner
    build(inner, b.line, b.base["span"], b.heredocs)
    _, rest = _cut(b.line.text)
    if rest.startswith("--"):
        rest = _cut(rest)[1]
    trigger = rest + "".join(f"\n{heredoc.raw}{heredoc.name}" for heredoc in b.heredocs)
    return ast.Onbuild(trigger, **b.base)


def _unset(b: _Builder) -> Instruction:
    kind, *names = b.form.words
    return ast.Unset(kind.text.upper(), tuple(word.text for word in names), **b.base)


_BUILDERS: dict[str, Callable[[_Builder], Instruction]] = {
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
