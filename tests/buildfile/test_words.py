from __future__ import annotations

import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layersmith.buildfile.expansion import LONGEST
from layersmith.buildfile.words import bare_words, expand, expand_heredoc, expand_words, raw_words
from layersmith.errors import ExpansionError

ENV = {"HOME": "/root", "EMPTY": "", "FILE": "archive.tar.gz", "PATHS": "/a/b/c", "STARS": "a*b*c", "é": "e"}

VALUES = [
    # Plain text, quotes and escapes
    ("", ""),
    ("plain", "plain"),
    ("two  words", "two  words"),
    ("'$HOME'", "$HOME"),
    ('"$HOME"', "/root"),
    ("'a'\"b\"c", "abc"),
    (r"\$HOME", "$HOME"),
    (r"a\ b", "a b"),
    (r"a\nb", "anb"),
    (r'"a\nb"', r"a\nb"),
    (r'"a\"b\$c\\d"', r"a\"b$c\d".replace('\\"', '"')),
    (r"'a\'", "a\\"),
    ("a\\", "a"),
    ("it''s", "its"),
    # Names
    ("$HOME/x", "/root/x"),
    ("${HOME}x", "/rootx"),
    ("$HOMEx", ""),
    ("$é", "e"),
    ("$", "$"),
    ("a$", "a$"),
    ("$/", "$/"),
    ("$1a$@b$#c$?d$$e", "abcde"),
    ("$12x", "x"),
    ("${@}", ""),
    # Defaults and alternatives
    ("${NONE-d}", "d"),
    ("${EMPTY-d}", ""),
    ("${EMPTY:-d}", "d"),
    ("${HOME:-d}", "/root"),
    ("${HOME+a}", "a"),
    ("${EMPTY+a}", "a"),
    ("${EMPTY:+a}", ""),
    ("${NONE:+a}", ""),
    ("${NONE:-$HOME}", "/root"),
    ("${NONE:-${EMPTY:-'a b'}}", "a b"),
    ('${NONE:-"}"}', "}"),
    (r"${NONE:-\}}", "}"),
    ("${HOME:?no}", "/root"),
    ("${EMPTY?no}", ""),
    ('"${NONE:-a}"', "a"),
    # Patterns
    ("${FILE%.*}", "archive.tar"),
    ("${FILE%%.*}", "archive"),
    ("${FILE#*.}", "tar.gz"),
    ("${FILE##*.}", "gz"),
    ("${FILE#archive}", ".tar.gz"),
    ("${FILE%nothing}", "archive.tar.gz"),
    ("${FILE#???}", "hive.tar.gz"),
    ("${STARS#a\\*}", "b*c"),
    ("${STARS%%\\**}", "a"),
    ("${NONE#x}", ""),
    ("${FILE/a/A}", "Archive.tar.gz"),
    ("${FILE//a/A}", "Archive.tAr.gz"),
    ("${FILE//[.]/-}", "archive.tar.gz"),
    ("${FILE/.*/!}", "archive!"),
    (r"${PATHS//\//:}", ":a:b:c"),
    ("${FILE/nothing/x}", "archive.tar.gz"),
    ("${EMPTY/x/y}", ""),
]


@pytest.mark.parametrize(("text", "value"), VALUES)
def test_expand_gives_what_buildkit_gives(text: str, value: str) -> None:
    """Each form of expansion has its value."""
    assert expand(text, ENV) == value


ERRORS = [
    ("'open", "missing the closing single quote"),
    ('"open', "missing the closing double quote"),
    ('"a\\"', "missing the closing double quote"),
    ("${", "missing '}'"),
    ("${HOME", "missing '}'"),
    ("${HOME:-a", "missing '}'"),
    ("${HOME/a", "missing '/'"),
    ("${}", "bad substitution"),
    ("${:-a}", "bad substitution"),
    ("${{a}}", "bad substitution"),
    ("${HOME:x}", "unsupported modifier (:x)"),
    ("${HOME:=x}", "unsupported modifier (:=)"),
    ("${HOME:#x}", "unsupported modifier (:#)"),
    ("${HOME^}", "unsupported modifier (^)"),
    ("${.}", "unsupported modifier (.)"),
    ("${NONE:?}", "NONE: is not allowed to be unset"),
    ("${EMPTY:?}", "EMPTY: is not allowed to be empty"),
    ("${NONE?say $HOME}", "NONE: say /root"),
    (r"${HOME#\x}", r"invalid escape '\x'"),
    ("${HOME/" + "a" * 5000 + "/b}", "longer than"),
]


@pytest.mark.parametrize(("text", "message"), ERRORS)
def test_expand_refuses(text: str, message: str) -> None:
    """A word that means nothing is an `ExpansionError` that says why."""
    with pytest.raises(ExpansionError) as caught:
        expand(text, ENV)
    assert message in caught.value.message


def test_the_escape_directive_changes_the_escape() -> None:
    """With a backtick as escape the backslash is text."""
    assert expand(r"C:\dir`$HOME`` `a", ENV, escape="`") == r"C:\dir$HOME` a"
    assert expand('"`"\\"', ENV, escape="`") == '"\\'


def test_unset_names_those_without_a_default() -> None:
    """Only a variable that silently gives nothing counts as unset."""
    unset: set[str] = set()
    expand("$A ${B} ${C:-x} ${D+y} ${E#x} ${F/a/b} $HOME $EMPTY", ENV, unset=unset)
    assert unset == {"A", "B", "E", "F"}


def test_expand_words_splits_what_variables_bring() -> None:
    """EXPOSE splits at blanks outside of quotes, and at those of a variable's value."""
    env = {"PORTS": "80 443/udp"}
    assert expand_words("$PORTS", env) == ["80", "443/udp"]
    assert expand_words('"$PORTS"', env) == ["80 443/udp"]
    assert expand_words(r"a\ b  c", env) == ["a b", "c"]
    assert expand_words("1$PORTS", env) == ["180", "443/udp"]
    assert expand_words('"" a', env) == ["a"]
    assert expand_words("$NONE", env) == []


def test_a_heredoc_keeps_quotes_and_loses_escapes() -> None:
    """BuildKit's odd rule: quotes are text, every backslash goes with what it escapes kept."""
    body = 'say "$HOME" \'$HOME\'\n\\$HOME \\n \\\\ \\\nend ${NONE:-"d"}\n'
    assert expand_heredoc(body, ENV) == 'say "/root" \'/root\'\n$HOME n \\ \nend "d"\n'


def test_raw_words_keep_everything_but_blanks() -> None:
    """Quotes, escapes and variables stay, and `<< EOF` is one word."""
    assert raw_words("cat <<EOF 3<<-'A B' << C $x \"a b\" \\ d") == [
        *("cat", "<<EOF", "3<<-'A B'", "<< C", "$x", '"a b"', "\\ d"),
    ]
    assert bare_words("'A B'$x\\'") == ["A B$x'"]


@settings(max_examples=100)
@given(st.text(alphabet="$v{}:-+?#%/*'\"\\` \na<\n", max_size=40), st.sampled_from("\\`"))
def test_expansion_raises_only_expansion_errors(text: str, escape: str) -> None:
    """Whatever the word, the outcome is a text or an `ExpansionError`."""
    env = {"v": "va*?\nue/", "a": ""}
    for function in (
        lambda: expand(text, env, escape=escape),
        lambda: expand_words(text, env, escape=escape),
        lambda: expand_heredoc(text, env),
        lambda: raw_words(text),
    ):
        with suppress(ExpansionError):
            function()


@settings(max_examples=50)
@given(st.text(max_size=40))
def test_single_quotes_make_any_text_literal(text: str) -> None:
    """'…' is the text itself, unless a quote is in it."""
    if "'" not in text:
        assert expand(f"'{text}'", ENV) == text


def test_an_expansion_that_grows_without_end_is_refused() -> None:
    """Doubling a variable does not fill the memory."""
    env = {"a": "x" * (LONGEST // 2)}
    with pytest.raises(ExpansionError, match="longer than"):
        expand("$a$a$a", env)
    with pytest.raises(ExpansionError, match="longer than"):
        expand("${a//x/" + "y" * 4000 + "}", env | {"a": "x" * 50_000})


NASTY = [
    "$" * 200_000,
    "${a:-" * 40_000,
    "'" * 200_001,
    '"$a' * 60_000,
    "\\" * 200_001,
    "<<" * 100_000,
    "${v##" + "*a" * 1000 + "b}",
    "${v//" + "a*" * 1000 + "b/x}",
    "${v//*/x}",
]


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_no_word_takes_long(text: str) -> None:
    """Time grows no faster than the product of pattern and value, and nesting is bounded."""
    start = time.process_time()
    with suppress(ExpansionError):
        expand(text, {"v": "a" * 20_000})
    assert time.process_time() - start < 1.5
