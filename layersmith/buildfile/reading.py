"""PARSE: the flags, words and commands of one instruction. In: `Form` and heredocs. Out: what `builders` puts together."""

from __future__ import annotations

import json
import re
from typing import Any

from layersmith.buildfile.instructions import Command, Heredoc
from layersmith.buildfile.lines import LogicalLine, heredoc_of
from layersmith.buildfile.suggest import did_you_mean, shown
from layersmith.buildfile.syntax import USAGE, Form, Word
from layersmith.buildfile.values import MILLISECOND, parse_duration
from layersmith.errors import BuildfileSyntaxError
from layersmith.source import Span

REPEATABLE = ("--mount", "--exclude", "--device")

_QUOTED = re.compile(r"""\\(.?)|'((?:[^'\\]|\\.)*)\\?'?|"((?:[^"\\]|\\.)*)\\?"?""", re.DOTALL)
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def first_word(text: str) -> tuple[str, str]:
    """The first word of ``text``, and what follows it."""
    match = re.match(r"([^\t\v\f\r ]*)[\t\v\f\r ]*", text)
    assert match
    return match[1], text[match.end() :]


class Reading:
    """A form with the means to read it; what is wrong raises `BuildfileSyntaxError` with the span of the word."""

    def __init__(self, form: Form, line: LogicalLine, span: Span, heredocs: tuple[Heredoc, ...]) -> None:
        self.form = form
        self.line = line
        self.heredocs = heredocs
        self.base: dict[str, Any] = {"span": span, "text": line.text, "keyword": first_word(line.text)[0]}
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
        too_few = f"{name} requires at least two arguments, sources and a destination"
        usage = f"write {USAGE[self.form.rule]}"
        found = self.json()
        if found is not None:
            if len(found) < 2:
                raise self.error(too_few, hint=usage)
            return found[:-1], found[-1], ()
        *sources, dest = self.form.words
        if not sources:
            raise self.error(too_few, dest, hint=usage)
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
