"""PARSE: text to `Buildfile`. In: a text. Out: its instructions, or every syntax error in it at once.

`lines` cuts the text into logical lines, the grammar (grammar/buildfile.lark) takes each apart, `builders` makes the
instruction. A line that fails does not stop the others. This is the only module that imports lark.
"""

from __future__ import annotations

import hashlib
import importlib.util
import marshal
import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layersmith.buildfile import builders
from layersmith.buildfile.diagnosis import diagnose
from layersmith.buildfile.instructions import Arg, Buildfile, From, Include, Instruction, Stage
from layersmith.buildfile.lines import Lines, LogicalLine, read_directives
from layersmith.buildfile.syntax import Form, Syntax, Word
from layersmith.errors import BuildfileSyntaxError
from layersmith.source import Source, Span

if TYPE_CHECKING:
    from lark import Lark, Tree

GRAMMAR = Path(__file__).parent.parent / "grammar" / "buildfile.lark"

MOST_INSTRUCTIONS = 10_000
MOST_WORDS = 100_000
"""Limits of a file, far from what anybody writes: a hostile one must not cost minutes."""
MOST_ERRORS = 20


def parse(text: str | bytes, name: str = "Buildfile", *, fragment: bool = False) -> Buildfile:
    """The Buildfile ``text``; ``name`` is what errors call it. A ``fragment`` (INCLUDE) may be empty.

    Bytes are UTF-8; other bytes survive as surrogates. Raises `BuildfileSyntaxError`; further errors are in its
    ``others``.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    source = Source(name, text.removeprefix("\ufeff"))
    directives = read_directives(source)
    reader = Lines(source, directives.escape)
    instructions: list[Instruction] = []
    errors: list[BuildfileSyntaxError] = []
    words = 0
    for line in reader:
        try:
            words += _count_words(line)
            if len(instructions) == MOST_INSTRUCTIONS or words > MOST_WORDS:
                errors.append(_too_much(line))
                break
            instructions.append(_instruction(line, reader))
        except BuildfileSyntaxError as error:
            errors.append(error)
            if len(errors) == MOST_ERRORS:
                break
    if errors:
        errors[0].others = tuple(errors[1:])
        raise errors[0]
    if not instructions and not fragment:
        raise BuildfileSyntaxError(
            "file with no instructions", hint="a Buildfile begins with FROM", span=_whole(source)
        )
    return Buildfile(source, directives, tuple(instructions))


def parse_onbuild(text: str, name: str = "ONBUILD") -> Instruction:
    """The one instruction of a trigger from an image's config (always with the default escape).

    Raises `BuildfileSyntaxError`.
    """
    source = Source(name, text)
    reader = Lines(source, "\\")
    found = [_instruction(line, reader) for line in reader]
    if len(found) != 1:
        raise BuildfileSyntaxError(
            f"an ONBUILD trigger must be one instruction, not {len(found)}", span=_whole(source)
        )
    builders.check_trigger(found[0])
    return found[0]


def stages(buildfile: Buildfile) -> tuple[tuple[Arg, ...], tuple[Stage, ...]]:
    """The global ARGs before the first FROM, and the stages.

    Raises `BuildfileSyntaxError` for any other instruction there, for an INCLUDE that is still unresolved, and where
    there is no FROM at all.
    """
    globals_: list[Arg] = []
    found: list[tuple[From, list[Instruction]]] = []
    for instruction in buildfile.instructions:
        if isinstance(instruction, Include):
            raise BuildfileSyntaxError("INCLUDE is not resolved", span=instruction.span)
        if isinstance(instruction, From):
            found.append((instruction, []))
        elif found:
            found[-1][1].append(instruction)
        elif isinstance(instruction, Arg):
            globals_.append(instruction)
        else:
            raise BuildfileSyntaxError(
                f"{type(instruction).__name__.upper()} stands before the first FROM",
                hint="only ARG may stand there; begin with FROM, if need be with FROM scratch",
                span=instruction.span,
            )
    if not found:
        raise BuildfileSyntaxError(
            "no build stage: there is no FROM",
            hint="begin with FROM image or FROM scratch",
            span=_whole(buildfile.source),
        )
    return tuple(globals_), tuple(Stage(first.name, first, tuple(rest)) for first, rest in found)


def _instruction(line: LogicalLine, reader: Lines) -> Instruction:
    form: Form | None = None
    error: BuildfileSyntaxError | None = None
    try:
        form = _form(line, reader.escape)
    except BuildfileSyntaxError as caught:
        error = caught
    # Bodies are taken even where the line is wrong, or else each of their lines would be an error of its own.
    heredocs = reader.heredocs(line) if builders.may_open_heredocs(line.text, form) else ()
    if error or not form:
        assert error
        raise error
    end_line = reader.next
    span = line.span()
    if end_line > line.end_line:
        span = Span(line.source, span.line, span.column, end_line, len(line.source.line(end_line)) + 1)
    return builders.build(form, line, span, heredocs)


def _form(line: LogicalLine, escape: str) -> Form:
    import lark  # 35 ms, and not needed for --help

    syntax, parser = _loaded()
    text = line.text
    swaps = escape != "\\" and builders.reads_words(text)
    if swaps:
        text = text.translate(_SWAP)
    try:
        tree = parser.parse(text)
    except lark.UnexpectedCharacters as error:
        raise diagnose(line, error.pos_in_stream or 0, syntax) from None
    except lark.UnexpectedToken as error:
        at = error.token.start_pos if error.token.type != "$END" else None
        raise diagnose(line, len(text) if at is None else at, syntax) from None
    return _to_form(tree, swaps=swaps)


_SWAP = str.maketrans("\\`", "`\\")
"""With ``# escape=``` the two characters change places for the grammar, and back in what it found."""


def _to_form(tree: Tree[Any], *, swaps: bool) -> Form:
    words: list[Word] = []
    flags: list[tuple[Word, Word | None]] = []
    inner: Form | None = None
    for child in tree.children:
        if not hasattr(child, "children"):
            words.append(_to_word(child, swaps=swaps))
        elif child.data.endswith("_flag"):
            name, *value = (_to_word(token, swaps=False) for token in child.children)
            flags.append((name, value[0] if value else None))
        else:
            inner = _to_form(child, swaps=swaps)
    return Form(str(tree.data), tuple(words), tuple(flags), inner)


def _to_word(token: Any, *, swaps: bool) -> Word:
    text = str(token)
    return Word(token.type, text.translate(_SWAP) if swaps else text, token.start_pos)


@lru_cache
def _loaded() -> tuple[Syntax, Lark]:
    """The grammar, and its parser: built (25 to 45 ms), or read as built before (3 ms)."""
    import lark

    text = GRAMMAR.read_bytes()
    key = hashlib.sha256(text + f"{lark.__version__} {sys.version}".encode()).digest()
    cache = Path(importlib.util.cache_from_source(str(GRAMMAR.with_suffix(".tables.py"))))
    tables = _read_tables(cache, key)
    if tables is None:
        parser = lark.Lark(
            text.decode(), parser="lalr", lexer="contextual", maybe_placeholders=False, cache=False
        )
        data, memo = parser.memo_serialize([lark.lexer.TerminalDef, lark.grammar.Rule])
        _write_tables(cache, key, {"data": data, "memo": memo})
    else:
        parser = lark.Lark._load_from_dict(**tables)  # type: ignore[no-untyped-call]
    flags: dict[str, dict[str, bool]] = {}
    for rule in parser.rules:
        if rule.origin.name.endswith("_flag"):
            instruction = rule.origin.name.removesuffix("_flag")
            known = flags.setdefault(instruction, {})
            flag = "--" + rule.expansion[0].name.lower().replace("_", "-")
            known[flag] = known.get(flag, True) and len(rule.expansion) > 1
    return Syntax(flags), parser


# The tables lie in __pycache__, as byte code does and with the same trust: whoever may write there may change the
# program anyway. They are plain values (marshal), so reading them runs nothing.


def _read_tables(cache: Path, key: bytes) -> dict[str, Any] | None:
    try:
        stored = cache.read_bytes()
        if stored[: len(key)] != key:
            return None
        tables = marshal.loads(stored[len(key) :])
    except (OSError, ValueError, EOFError, TypeError):
        return None
    return tables if isinstance(tables, dict) else None


def _write_tables(cache: Path, key: bytes, tables: dict[str, Any]) -> None:
    if sys.dont_write_bytecode:
        return
    temporary = cache.with_suffix(f".{os.getpid()}")
    try:
        cache.parent.mkdir(exist_ok=True)
        temporary.write_bytes(key + marshal.dumps(tables))
        temporary.replace(cache)
    except (OSError, ValueError):
        temporary.unlink(missing_ok=True)


def _count_words(line: LogicalLine) -> int:
    return 0 if builders.is_shell_text(line.text) else line.text.count(" ") + line.text.count("\t")


def _too_much(line: LogicalLine) -> BuildfileSyntaxError:
    return BuildfileSyntaxError(
        f"a Buildfile may have {MOST_INSTRUCTIONS} instructions and {MOST_WORDS} words outside of commands",
        hint="split it with INCLUDE, or copy a directory instead of single files",
        span=line.span(),
    )


def _whole(source: Source) -> Span:
    lines = source.text.split("\n")
    return Span(source, 1, 1, len(lines), len(lines[-1]) + 1)
