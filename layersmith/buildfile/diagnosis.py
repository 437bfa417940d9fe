"""PARSE: why a logical line is not in the language. In: the line, and where the grammar stopped. Out: the error."""

from __future__ import annotations

import re

from layersmith.buildfile.lines import LogicalLine
from layersmith.buildfile.suggest import did_you_mean, shown
from layersmith.buildfile.syntax import USAGE, Syntax
from layersmith.errors import BuildfileSyntaxError

NOT_TRIGGERS = ("FROM", "MAINTAINER", "ONBUILD", "INCLUDE")

BLANKS = "\t\v\f\r "
_WORD = re.compile(r"[^\t\v\f\r ]+")


def diagnose(line: LogicalLine, position: int, syntax: Syntax) -> BuildfileSyntaxError:
    """The error for ``line``, whose text the grammar could not go on with at offset ``position``."""
    words = [(match[0], match.start()) for match in _first_words(line.text)]
    keyword, start = words[0]
    if keyword.lower() == "onbuild" and len(words) > 1 and position >= words[1][1]:
        keyword, start = words[1]
        if keyword.upper() in NOT_TRIGGERS:
            return _error(
                line,
                start,
                f"{keyword.upper()} isn't allowed as an ONBUILD trigger"
                if keyword.lower() != "onbuild"
                else "chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
                "a trigger is any other instruction",
            )
    rule = keyword.lower()
    if rule not in USAGE:
        known = [name.upper() for name in USAGE]
        return _error(
            line,
            start,
            f"unknown instruction: {shown(keyword)[1:-1]}",
            did_you_mean(keyword, known) or "instructions are " + ", ".join(known),
        )
    at = _word_start(line.text, position)
    return _flag_error(line, rule, at, syntax) or _form_error(line, rule, at)


def _first_words(text: str) -> list[re.Match[str]]:
    found: list[re.Match[str]] = []
    position = 0
    while len(found) < 2 and (match := _WORD.search(text, position)):
        found.append(match)
        position = match.end()
    return found


def _second_word(text: str) -> int:
    """Offset of the word behind the instruction's name, the text's length if there is none."""
    words = _first_words(text)
    return words[1].start() if len(words) > 1 else len(text)


def _word_start(text: str, position: int) -> int:
    """Where the word that holds ``position``, or the next one, begins: the grammar may stop in a word's middle."""
    rest = text[position:]
    position += len(rest) - len(rest.lstrip(BLANKS))
    if position == len(text):
        return position
    return max(text.rfind(blank, 0, position) for blank in BLANKS) + 1


def _flag_error(line: LogicalLine, rule: str, at: int, syntax: Syntax) -> BuildfileSyntaxError | None:
    """If the word at ``at`` is a flag that is not known, or the one before lacks a value."""
    known = syntax.flags.get(rule, {})
    word = _word(line.text, at)
    name = word.partition("=")[0]
    if name.startswith("--") and name not in known:
        flags = (
            f"flags of {rule.upper()} are {', '.join(sorted(known))}"
            if known
            else f"{rule.upper()} has no flags"
        )
        return _error(
            line, at, f"unknown flag: {shown(name)[1:-1]}", did_you_mean(name, known) or flags, len(name)
        )
    before = line.text[:at].rstrip(BLANKS)
    start = max(before.rfind(blank) for blank in BLANKS) + 1
    for begin, name in ((at, word), (start, before[start:])):
        if known.get(name):
            return _error(
                line, begin, f"missing a value on flag: {name}", f"write {name}=VALUE, with no blank"
            )
    return None


def _word(text: str, at: int) -> str:
    match = _WORD.match(text, at)
    return match[0] if match else ""


def _form_error(line: LogicalLine, rule: str, at: int) -> BuildfileSyntaxError:
    name = rule.upper()
    word = _word(line.text, at)
    hint = f"write {USAGE[rule]}"
    if rule == "from":
        message = "FROM requires either one or three arguments"
    elif rule in ("copy", "add"):
        message = f"{name} requires at least two arguments, sources and a destination"
    elif rule in ("env", "label") and word.startswith("="):
        message = f"{name} names can not be blank"
    elif rule in ("env", "label") and word and at == _second_word(line.text):
        message = (
            f"{name} must have two arguments"
            if "=" not in word
            else f"{name} cannot begin with {shown(word)}"
        )
    elif rule in ("env", "label") and not word and len(_first_words(line.text)) > 1:
        message = f"{name} must have two arguments"
    elif rule in ("env", "label") and word:
        message = f"can't find = in {shown(word)}: it must be of the form name=value"
    elif rule == "shell":
        message = "SHELL requires its arguments as a JSON array of strings"
    elif rule == "healthcheck" and word and at > _second_word(line.text):
        message = "HEALTHCHECK NONE takes no arguments"
    elif rule == "healthcheck" and word:
        message = f"unknown type {shown(word)} in HEALTHCHECK"
    elif rule == "healthcheck" and len(_first_words(line.text)) > 1:
        message = "missing command after HEALTHCHECK CMD"
    elif rule == "unset" and word:
        message = f"UNSET does not know {shown(word)}"
        hint = did_you_mean(word, ("ENV", "LABEL", "EXPOSE", "VOLUME")) or hint
    elif rule == "unset":
        message = "UNSET requires a kind and at least one name"
    elif rule in ("user", "workdir", "stopsignal", "maintainer", "include"):
        message = f"{name} requires exactly one argument"
    elif word:
        message = f"{name} cannot go on with {shown(word)}"
    else:
        message = f"{name} requires at least one argument"
    return _error(line, at, message, hint)


def _error(
    line: LogicalLine, at: int, message: str, hint: str, length: int | None = None
) -> BuildfileSyntaxError:
    if at >= len(line.text):
        return BuildfileSyntaxError(message, hint=hint, span=line.span())
    end = at + (length or len(_word(line.text, at)) or 1)
    return BuildfileSyntaxError(message, hint=hint, span=line.span(at, end))
