from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import lark
import pytest

from layersmith.buildfile import parser
from layersmith.buildfile.instructions import (
    Add,
    Arg,
    Cmd,
    Command,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
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
from layersmith.buildfile.parser import parse, parse_onbuild, stages
from layersmith.errors import BuildfileSyntaxError
from layersmith.source import Source, Span

NOWHERE = Span(Source("", ""), 1, 1, 1, 1)


def of(kind: Any, *args: Any, **kwargs: Any) -> Any:
    return kind(*args, span=NOWHERE, text="", **kwargs)


def shell(text: str) -> Command:
    return Command(shell=True, args=(text,))


def argv(*args: str) -> Command:
    return Command(shell=False, args=args)


SECOND = 1_000_000_000

ACCEPTED = [
    ("FROM alpine", of(From, "alpine")),
    ("from Alpine:3 as Build-1.x_y", of(From, "Alpine:3", "build-1.x_y")),
    ("FROM --platform=$BUILDPLATFORM a AS as", of(From, "a", "as", "$BUILDPLATFORM")),
    ("RUN  echo  'a  b' ", of(Run, shell("echo  'a  b'"))),
    ('RUN ["a", "b\\n\\u0041"]', of(Run, argv("a", "b\nA"))),
    ("RUN ['a']", of(Run, shell("['a']"))),
    ('RUN ["a"', of(Run, shell('["a"'))),
    ("RUN [ -f x ]", of(Run, shell("[ -f x ]"))),
    ('RUN ["a"] b', of(Run, shell('["a"] b'))),
    ("RUN", of(Run, shell(""))),
    ("RUN -- --help", of(Run, shell("--help"))),
    ("RUN --network=none --security=insecure x", of(Run, shell("x"), network="none", security="insecure")),
    ("RUN --device=a/b=c --device=d x", of(Run, shell("x"), devices=("a/b=c", "d"))),
    ("RUN --no-cache --retry=3 --timeout=1m30s x", of(Run, shell("x"), no_cache=True, retry=3, timeout=90.0)),
    ("RUN --no-cache=FALSE x", of(Run, shell("x"))),
    ('CMD ["a b"]', of(Cmd, argv("a b"))),
    ("CMD []", of(Cmd, argv())),
    ("CMD a b", of(Cmd, shell("a b"))),
    ("CMD", of(Cmd, shell(""))),
    ("ENTRYPOINT []", of(Entrypoint, argv())),
    ('SHELL [ "a" , "b" ]', of(Shell, ("a", "b"))),
    ("COPY a b", of(Copy, ("a",), "b")),
    ("COPY a\tb  c/", of(Copy, ("a", "b"), "c/")),
    ('COPY ["a b", "c"]', of(Copy, ("a b",), "c")),
    ("COPY [a b]", of(Copy, ("[a",), "b]")),
    (
        "COPY --from=x --link --parents=true --chown=a:b --chmod=u=rwX --exclude=*.o --exclude=$x a b",
        of(
            Copy,
            ("a",),
            "b",
            from_="x",
            link=True,
            parents=True,
            chown="a:b",
            chmod="u=rwX",
            excludes=("*.o", "$x"),
        ),
    ),
    ("COPY --chown=\"a b\":c\\ d'e' x y", of(Copy, ("x",), "y", chown="a b:c de")),
    ("COPY --from= a b", of(Copy, ("a",), "b", from_="")),
    ("COPY --link=false -- --a b", of(Copy, ("--a",), "b")),
    ("COPY a --b c", of(Copy, ("a", "--b"), "c")),
    (
        "ADD --checksum=sha256:1 --keep-git-dir --unpack=false https://x/y z",
        of(Add, ("https://x/y",), "z", checksum="sha256:1", keep_git_dir=True, unpack=False),
    ),
    ("ENV a=b", of(Env, (("a", "b"),))),
    (
        "ENV a=b c='d e' f=\"g=h\" i=j\\ k",
        of(Env, (("a", "b"), ("c", "'d e'"), ("f", '"g=h"'), ("i", "j\\ k"))),
    ),
    ("ENV a= b=", of(Env, (("a", ""), ("b", "")))),
    ("ENV a  b=c  d", of(Env, (("a", "b=c  d"),), True)),
    ("ENV a=b --c=d", of(Env, (("a", "b"), ("--c", "d")))),
    ('ENV a="open b=c', of(Env, (("a", '"open b=c'),))),
    ("LABEL \"a b\"=c 'd'=e", of(Label, (('"a b"', "c"), ("'d'", "e")))),
    ("LABEL a b c", of(Label, (("a", "b c"),), True)),
    ("ARG a b=c d=", of(Arg, (("a", None), ("b", "c"), ("d", "")))),
    ("ARG --ignored=1 a='b c'", of(Arg, (("a", "'b c'"),))),
    ("EXPOSE 80 443/UDP $x", of(Expose, ("80", "443/UDP", "$x"))),
    ("VOLUME /a /b", of(Volume, ("/a", "/b"))),
    ('VOLUME ["/a b"]', of(Volume, ("/a b",))),
    ("USER a b", of(User, "a b")),
    ("WORKDIR /a b", of(Workdir, "/a b")),
    ("STOPSIGNAL --ignored 9", of(Stopsignal, "9")),
    ("MAINTAINER me <me@x>", of(Maintainer, "me <me@x>")),
    ("HEALTHCHECK NONE", of(Healthcheck, True)),
    ("HEALTHCHECK --ignored none", of(Healthcheck, True)),
    ("HEALTHCHECK CMD curl  x", of(Healthcheck, False, shell("curl  x"))),
    (
        'HEALTHCHECK --interval=5m --timeout=3s --start-period=0 --start-interval=1.5s --retries=3 CMD ["a"]',
        of(
            Healthcheck,
            False,
            argv("a"),
            interval=300 * SECOND,
            timeout=3 * SECOND,
            start_interval=3 * SECOND // 2,
            retries=3,
        ),
    ),
    ("ONBUILD  RUN  a", of(Onbuild, "RUN  a")),
    ("onbuild copy --from=a b c", of(Onbuild, "copy --from=a b c")),
    ("INCLUDE sub/common.build", of(Include, "sub/common.build")),
    ("UNSET env A B", of(Unset, "ENV", ("A", "B"))),
]


@pytest.mark.parametrize(("text", "instruction"), ACCEPTED, ids=[text for text, _ in ACCEPTED])
def test_instructions(text: str, instruction: Instruction) -> None:
    """Each form of each instruction has its value."""
    assert parse(text).instructions == (instruction,)


def only(text: str) -> Any:
    (instruction,) = parse(text).instructions
    return instruction


def test_mount_flags_keep_their_fields() -> None:
    """Keys in lower case, values as written, bare keys without one; CSV quotes hold commas."""
    run = only('RUN --mount=TYPE=cache,target=$x,ro --mount=\\"a=b,c\\",d x')
    assert [mount.fields for mount in run.mounts] == [
        (("type", "cache"), ("target", "$x"), ("ro", None)),
        (("a", "b,c"), ("d", None)),
    ]
    assert str(run.mounts[1].span) == "Buildfile:1:37"


def test_a_heredoc_that_is_the_command_is_a_script() -> None:
    """Its body is the command; with anything beside it the shell reads it."""
    script = only("RUN <<EOF\necho a\necho b\nEOF\n").command
    assert script.args == ("echo a\necho b\n",)
    assert script.script == script.heredocs[0]
    assert script.text == "<<EOF"
    mixed = only("RUN cat <<-A - <<'B'\n\t1\n\tA\n2\nB\n").command
    assert mixed.args == ("cat <<-A - <<'B'\n\t1\nA\n2\nB",)
    assert mixed.script is None
    tabs = only("RUN <<-EOF\n\t\ta\n\tEOF\n").command
    assert tabs.args == ("a\n",)


def test_json_has_no_heredocs() -> None:
    """`RUN ["<<EOF"]` is an argument, and so is COPY's."""
    file = parse('RUN ["<<EOF"]\nCOPY ["<<A", "/b"]\nRUN x\n')
    assert len(file.instructions) == 3


def test_copy_takes_heredocs_as_sources() -> None:
    """They keep their order beside real sources."""
    copy = only('COPY a <<B --c <<"D E" /f/\n1\nB\n2\nD E\n')
    assert (copy.sources, copy.dest) == (("a", "--c"), "/f/")
    assert [(h.name, h.body, h.expand) for h in copy.heredocs] == [("B", "1\n", True), ("D E", "2\n", False)]


def test_only_run_copy_and_add_have_heredocs() -> None:
    """Elsewhere `<<` is text, and the next line an instruction."""
    with pytest.raises(BuildfileSyntaxError, match="unknown instruction: EOF"):
        parse("USER <<EOF\nEOF\n")


def test_an_onbuild_trigger_keeps_its_heredoc() -> None:
    """As the text that BuildKit puts into the config."""
    assert only("ONBUILD RUN <<-X\n\ty\n\tX\n").trigger == "RUN <<-X\n\ty\nX"


def test_the_escape_directive_is_for_words_too() -> None:
    """ENV, LABEL and ARG part their words by it; flags know the backslash only."""
    file = parse("# escape=`\nFROM x\nENV a=C:\\ b=c` d\nCOPY --chown=a\\ b x `\n  y\n")
    assert file.instructions[1] == of(Env, (("a", "C:\\"), ("b", "c` d")))
    assert file.instructions[2] == of(Copy, ("x",), "y", chown="a b")


def test_spans_cover_an_instruction_with_its_heredocs() -> None:
    """From its first character to its terminator's last."""
    text = "\ufeffFROM x\n  RUN a \\\n    b <<E\nbody\nE\n"
    span = parse(text).instructions[1].span
    assert (span.line, span.column, span.end_line, span.end_column) == (2, 3, 5, 2)


def test_bytes_that_are_not_utf8_survive() -> None:
    """They come back as they were."""
    (run,) = parse(b"RUN echo \xff").instructions
    assert isinstance(run, Run)
    assert run.command.args[0].encode("utf-8", "surrogateescape") == b"echo \xff"


def test_all_problems_are_reported_in_one_run() -> None:
    """In order, and a broken line's heredoc is not taken for instructions."""
    with pytest.raises(BuildfileSyntaxError) as caught:
        parse("FROM x\nRUN --mont=a <<EOF\nnot an instruction\nEOF\nCOPY a\nFOO\n")
    errors = [caught.value, *caught.value.others]
    assert [str(error) for error in errors] == [
        "Buildfile:2:5: unknown flag: --mont",
        "Buildfile:5:6: COPY requires at least two arguments, sources and a destination",
        "Buildfile:6:1: unknown instruction: FOO",
    ]
    assert errors[0].hint == "did you mean --mount?"


def test_errors_are_bounded() -> None:
    """A file of nonsense gives twenty of them."""
    with pytest.raises(BuildfileSyntaxError) as caught:
        parse("nonsense\n" * 1000)
    assert len(caught.value.others) == parser.MOST_ERRORS - 1


def test_stages_begin_at_from() -> None:
    """What stands before the first is global."""
    globals_, found = stages(parse("ARG a\nFROM x AS One\nRUN 1\nFROM one\nRUN 2\nRUN 3\n"))
    assert globals_ == (of(Arg, (("a", None),)),)
    assert [(stage.name, len(stage.instructions)) for stage in found] == [("one", 1), (None, 2)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("RUN a\nFROM x", "RUN stands before the first FROM"),
        ("ARG a", "there is no FROM"),
        ("FROM x\nINCLUDE a", "INCLUDE is not resolved"),
    ],
)
def test_what_makes_no_stages(text: str, message: str) -> None:
    """Each with a span."""
    with pytest.raises(BuildfileSyntaxError, match=message) as caught:
        stages(parse(text))
    assert caught.value.span is not None


def test_an_empty_file_is_an_error_unless_it_is_a_fragment() -> None:
    """Comments alone build nothing, but may be included."""
    with pytest.raises(BuildfileSyntaxError, match="no instructions"):
        parse("# nothing\n")
    assert parse("# nothing\n", fragment=True).instructions == ()


def test_triggers_are_one_instruction() -> None:
    """From an image's config, so with the default escape, and without what no trigger may be."""
    assert parse_onbuild("RUN <<E\na\nE") == only("RUN <<E\na\nE\n")
    for text in ("RUN a\nRUN b", "", "FROM x", "ONBUILD RUN x", "NONSENSE"):
        with pytest.raises(BuildfileSyntaxError):
            parse_onbuild(text)


def test_the_shipped_tables_are_those_of_the_grammar() -> None:
    """If this fails, run `python -m layersmith.buildfile.parser`."""
    with open(parser.GRAMMAR, "rb") as file:
        grammar = file.read()
    assert parser._stored_tables(parser._key(grammar, lark.__version__)) is not None


def test_without_tables_the_grammar_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version of lark only makes the start slower."""
    text = "\n".join(text for text, _ in ACCEPTED)
    expected = parse(text)
    monkeypatch.setattr(parser, "TABLES", "/nonexistent")
    parser._loaded.cache_clear()
    try:
        assert parse(text) == expected
    finally:
        parser._loaded.cache_clear()


def test_importing_the_parser_does_not_import_lark() -> None:
    """lark costs half of a small command's start."""
    code = "import sys, layersmith.buildfile.parser; sys.exit('lark' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


MIB = 1 << 20
NASTY = {
    "one word": "a",
    "lines": "x\n",
    "backslashes": "\\",
    "continuations": "RUN \\\n",
    "comments": "# a\n",
    "instructions": "USER a\n",
    "words": "COPY a ",
    "pairs": 'ENV a="\\',
    "quotes": 'LABEL a="',
    "flags": 'COPY --from="',
    "switches": "COPY --link ",
    "brackets": 'CMD [["',
    "array": '"a",',
    "heredocs": "RUN <<A ",
    "heredoc lines": "RUN <<A\nA\n",
    "open heredocs": "RUN <<A\n",
    "variables": 'RUN <<A "${a:-',
    "durations": "HEALTHCHECK --interval=1s1s",
    "mounts": "RUN --mount=a,",
    "triggers": "ONBUILD ",
    "empty lines": "\n",
    "blanks": " \t",
    "directives": "# check=skip=a,",
    "keys": "ENV a\\=",
    "dashes": "RUN --",
}


@pytest.mark.parametrize("piece", NASTY.values(), ids=NASTY.keys())
def test_a_mebibyte_of_anything_is_quick(piece: str) -> None:
    """Once as one long line, once as many: no input makes the parser slow."""
    first, _, _ = piece.partition(" ")
    for text in (
        (piece * (MIB // len(piece) + 1))[:MIB],
        first + " " + (piece * (MIB // len(piece)))[: MIB - 20],
    ):
        start = time.process_time()
        try:
            parse(text)
        except BuildfileSyntaxError as error:
            assert error.span is not None
            assert len(error.message) < 1000
        assert time.process_time() - start < 2
