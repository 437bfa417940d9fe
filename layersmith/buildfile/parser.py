"""PARSE: text to `Buildfile`. In: a text. Out: its instructions, or every syntax error in it at once.

`lines` cuts the text into logical lines, the grammar (grammar/buildfile.lark) takes each apart, `builders` makes the
instruction. A line that fails does not stop the others. This is the only module that imports lark.
"""

from __future__ import annotations

import hashlib
import marshal
import zlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from layersmith.buildfile import builders
from layersmith.buildfile.instructions import Arg, Buildfile, Directives, From, Include, Instruction, Stage
from layersmith.buildfile.lines import Comment, Lines, LogicalLine, read_directives
from layersmith.buildfile.syntax import Form, Syntax, Word
from layersmith.dataclass import dataclass
from layersmith.errors import BuildfileSyntaxError
from layersmith.source import Source, Span

if TYPE_CHECKING:
    from lark import Lark, Tree

GRAMMAR = f"{__file__.rpartition('/')[0]}/../grammar/buildfile.lark"
TABLES = GRAMMAR.removesuffix(".lark") + ".tables"

MOST_INSTRUCTIONS = 5_000
MOST_WORDS = 50_000
"""Limits of a file, far from what anybody writes: a hostile one must not cost minutes."""
MOST_ERRORS = 20


def parse(text: str | bytes, name: str = "Buildfile", *, fragment: bool = False) -> Buildfile:
    """The Buildfile ``text``; ``name`` is what errors call it. A ``fragment`` (INCLUDE) may be empty.

    Bytes are UTF-8; other bytes survive as surrogates. Raises `BuildfileSyntaxError`; further errors are in its
    ``others``.
    """
    source = source_of(text, name)
    file = take_apart(source)
    if not file.items and not fragment:
        raise BuildfileSyntaxError(
            "file with no instructions", hint="a Buildfile begins with FROM", span=_first_line(source)
        )
    return Buildfile(source, file.directives, tuple(item.instruction for item in file.items))


@dataclass(frozen=True, slots=True)
class Item:
    """An instruction with its logical line and what the grammar found in that: for lint and fmt, which want both."""

    line: LogicalLine
    form: Form
    instruction: Instruction


@dataclass(frozen=True, slots=True)
class File:
    """A text taken apart. ``trailing`` are the comments behind the last instruction."""

    directives: Directives
    items: tuple[Item, ...]
    trailing: tuple[Comment, ...]


def source_of(text: str | bytes, name: str) -> Source:
    """``text`` without its byte-order mark; bytes that are not UTF-8 become surrogates."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    return Source(name, text.removeprefix("\ufeff"))


def take_apart(source: Source) -> File:
    """All instructions of ``source``. Raises `BuildfileSyntaxError`, with ``others``."""
    directives = read_directives(source)
    reader = Lines(source, directives.escape)
    items: list[Item] = []
    errors: list[BuildfileSyntaxError] = []
    words = 0
    for line in reader:
        try:
            words += _count_words(line)
            if len(items) == MOST_INSTRUCTIONS or words > MOST_WORDS:
                errors.append(_too_much(line))
                break
            items.append(_item(line, reader))
        except BuildfileSyntaxError as error:
            errors.append(error)
            if len(errors) == MOST_ERRORS:
                break
    if errors:
        errors[0].others = tuple(errors[1:])
        raise errors[0]
    return File(directives, tuple(items), reader.trailing)


def parse_onbuild(text: str, name: str = "ONBUILD") -> Instruction:
    """The one instruction of a trigger from an image's config (always with the default escape).

    Raises `BuildfileSyntaxError`.
    """
    source = Source(name, text)
    reader = Lines(source, "\\")
    found = [_item(line, reader).instruction for line in reader]
    if len(found) != 1:
        raise BuildfileSyntaxError(
            f"an ONBUILD trigger must be one instruction, not {len(found)}", span=_first_line(source)
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
            span=_first_line(buildfile.source),
        )
    return tuple(globals_), tuple(Stage(first.name, first, tuple(rest)) for first, rest in found)


def _item(line: LogicalLine, reader: Lines) -> Item:
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
    span = Span(line.source, *line.place(0), *reader.end_of(line))
    return Item(line, form, builders.build(form, line, span, heredocs))


def _form(line: LogicalLine, escape: str) -> Form:
    import lark  # 35 ms, and not needed for --help

    syntax, parser = _loaded()
    text = line.text
    swaps = escape != "\\" and builders.reads_words(text)
    if swaps:
        text = text.translate(_SWAP)
    try:
        return _to_form(parser.parse(text), swaps=swaps)
    except lark.UnexpectedCharacters as error:
        at = error.pos_in_stream or 0
    except lark.UnexpectedToken as error:
        at = len(text) if error.token.type == "$END" else error.token.start_pos or 0
    from layersmith.buildfile.diagnosis import diagnose

    raise diagnose(line, at, syntax)


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
    """The grammar's flags, and its parser: from the tables beside it (3 ms), or built anew (40 ms) if they are stale."""
    import lark

    with open(GRAMMAR, "rb") as file:
        text = file.read()
    tables = _stored_tables(_key(text, lark.__version__))
    if tables is None:
        parser = _built(text)
    else:
        parser = lark.Lark._load_from_dict(**tables)  # type: ignore[no-untyped-call]
    flags: dict[str, dict[str, bool]] = {}
    for rule in parser.rules:
        if rule.origin.name.endswith("_flag"):
            known = flags.setdefault(rule.origin.name.removesuffix("_flag"), {})
            flag = "--" + rule.expansion[0].name.lower().replace("_", "-")
            known[flag] = known.get(flag, True) and len(rule.expansion) > 1
    return Syntax(flags), parser


def _built(grammar: bytes) -> Lark:
    import lark

    return lark.Lark(grammar.decode(), parser="lalr", lexer="contextual", maybe_placeholders=False)


# LALR tables are shipped, since a byte-code directory is so often not writable. They hold plain values (marshal, not
# pickle), and a key that only this grammar with this version of lark has.


def _key(grammar: bytes, lark_version: str) -> bytes:
    return hashlib.sha256(lark_version.encode() + b"\n" + grammar).digest()


def _stored_tables(key: bytes) -> dict[str, Any] | None:
    try:
        with open(TABLES, "rb") as file:
            stored = file.read()
    except OSError:
        return None
    if stored[: len(key)] != key:
        return None
    tables = marshal.loads(zlib.decompress(stored[len(key) :]))
    assert isinstance(tables, dict)
    return tables


def write_tables() -> None:
    """Make the tables anew, as must be done whenever the grammar or lark changes: ``python -m layersmith.buildfile.parser``."""
    import lark

    with open(GRAMMAR, "rb") as file:
        text = file.read()
    data, memo = _built(text).memo_serialize([lark.lexer.TerminalDef, lark.grammar.Rule])
    with open(TABLES, "wb") as file:
        file.write(
            _key(text, lark.__version__) + zlib.compress(marshal.dumps({"data": data, "memo": memo}, 2))
        )


def _count_words(line: LogicalLine) -> int:
    """An upper bound of what the grammar will find; a command is one word, whatever flags it might have."""
    text = line.text
    return text.count("--") if builders.is_shell_text(text) else len(text.split())


def _too_much(line: LogicalLine) -> BuildfileSyntaxError:
    return BuildfileSyntaxError(
        f"a Buildfile may have {MOST_INSTRUCTIONS} instructions and {MOST_WORDS} words outside of commands",
        hint="split it with INCLUDE, or copy a directory instead of single files",
        span=line.span(),
    )


def _first_line(source: Source) -> Span:
    return Span(source, 1, 1, 1, len(source.line(1)) + 1)


if __name__ == "__main__":
    write_tables()
