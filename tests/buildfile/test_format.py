from __future__ import annotations

import time

import pytest

from layersmith.buildfile.format import fmt
from layersmith.buildfile.parser import parse
from layersmith.buildfile.unparse import unparse
from layersmith.errors import BuildfileSyntaxError

FORMATTED = {
    "words": ("from   x    as  y\n", "FROM x AS y\n"),
    "no newline at the end": ("FROM x", "FROM x\n"),
    "blanks at the ends": ("  FROM x  \n\tUSER  a b\t\n", "FROM x\nUSER a b\n"),
    "empty lines": ("\n\nFROM x\n\n\n\nUSER a\n\n\n", "FROM x\n\nUSER a\n"),
    "comments": ("# a \n   #b\nFROM x\n#c", "# a\n#b\nFROM x\n#c\n"),
    "carriage returns": ("FROM x\r\nCOPY a \\\r\n  b\r\n", "FROM x\nCOPY a \\\n    b\n"),
    "directives": ("#  escape = `\nFROM x `\n  as y\n", "#  escape = `\nFROM x `\n    AS y\n"),
    "flags": (
        "FROM x\ncopy  --from=a   --link \\\n --chown='b c' d e\n",
        "FROM x\nCOPY --from=a --link \\\n    --chown='b c' d e\n",
    ),
    "continuations": ("ENV a=1   \\\n b=2 \\\n\t\tc=3\n", "ENV a=1 \\\n    b=2 \\\n    c=3\n"),
    "empty continuations": ("ENV a=1 \\\n\n b=2\n", "ENV a=1 \\\n    b=2\n"),
    "inner comments": ("ENV a=1 \\\n# one\n   # two\n b=2\n", "ENV a=1 \\\n    # one\n    # two\n    b=2\n"),
    "a word in two lines": ("ENV a=b\\\nc d=e\n", "ENV a=b\\\nc d=e\n"),
    "quoted lines": ('ENV a="b   \\\n  c"\n', 'ENV a="b \\\n    c"\n'),
    "commands": ("RUN   a   b && \\\n  c\n", "RUN a   b && \\\n  c\n"),
    "command blanks": ("RUN a &&   \\\n  c\n", "RUN a && \\\n    c\n"),
    "command comments": ("RUN a && \\\n # why\n   b\n", "RUN a && \\\n   # why\n   b\n"),
    "a command on the next line": ("RUN \\\n  a && \\\n  b\n", "RUN \\\n    a && \\\n  b\n"),
    "json": ('CMD [ "a","b" ,  "c" ]\n', 'CMD ["a", "b", "c"]\n'),
    "json escapes": ('CMD ["\\u0041", "\\/"]\n', 'CMD ["\\u0041", "\\/"]\n'),
    "json lines": ('CMD [ "a", \\\n "b"]\n', 'CMD ["a", \\\n    "b"]\n'),
    "empty json": ("ENTRYPOINT [ ]\n", "ENTRYPOINT []\n"),
    "heredocs": ("RUN  <<EOF\n  a  \n\n\n# b\nEOF\nUSER  c\n", "RUN <<EOF\n  a  \n\n\n# b\nEOF\nUSER c\n"),
    "heredoc terminators": ("COPY  <<-A  /b\n\tx\n\t\tA\n", "COPY <<-A /b\n\tx\n\t\tA\n"),
    "legacy pairs": ("ENV  a   b  c\n", "ENV a b  c\n"),
    "triggers": ("onbuild   run   a   b\n", "ONBUILD run   a   b\n"),
    "healthchecks": ("healthcheck  --retries=1  cmd  a  b\n", "HEALTHCHECK --retries=1 CMD a  b\n"),
    "no healthcheck": ("healthcheck  none\n", "HEALTHCHECK NONE\n"),
    "unset": ("unset  env  a   b\n", "UNSET ENV a b\n"),
    "end of flags": ("RUN  --   --x\n", "RUN -- --x\n"),
    "ignored flags": ("ARG  --a  b\n", "ARG --a b\n"),
    "an empty line that matters": ("\n\n# escape=`\nFROM x\n", "\n# escape=`\nFROM x\n"),
    "a comment that is no directive": (
        "# escape=\\\n \\\n# escape=`\nFROM x\n",
        "# escape=\\\n\n# escape=`\nFROM x\n",
    ),
    "what must not become JSON": ('COPY  ["a",\f"b"]\n', 'COPY ["a",\f"b"]\n'),
    "what must not become a pair": ("ENV  \\  a=b  c\n", "ENV \\  a=b  c\n"),
    "an odd blank that matters": ("RUN a\\\v\nUSER b\n", "RUN a\\\f\nUSER b\n"),
    "a comment at the end of a continuation": ("RUN a \\\n # b\n", "RUN a\n# b\n"),
}


@pytest.mark.parametrize(("before", "after"), FORMATTED.values(), ids=FORMATTED.keys())
def test_fmt(before: str, after: str) -> None:
    """One style, the same instructions, and nothing to do the second time."""
    assert fmt(before) == after
    assert fmt(after) == after
    assert parse(after) == parse(before)


@pytest.mark.parametrize(
    "text",
    [
        "RUN a" + " \\\n b" * 100_000,
        "ENV" + " \\\n# c\n a=b" * 40_000,
        "RUN a \\\n" + "# c\n" * 200_000 + "b",
        "\n" * 500_000 + "FROM x",
    ],
    ids=["lines", "words", "comments", "empty"],
)
def test_fmt_of_a_huge_file_is_quick(text: str) -> None:
    """The time grows with the text, and no faster."""
    start = time.process_time()
    fmt(text)
    assert time.process_time() - start < 3


def test_fmt_of_what_does_not_parse_is_an_error() -> None:
    """It is not touched."""
    with pytest.raises(BuildfileSyntaxError):
        fmt("FROM a b\n")


UNPARSED = [
    "FROM --platform=a b AS c",
    "RUN --mount=type=cache,target=/x --network=none --security=insecure --device=a --no-cache --retry=2 --timeout=90s a  b",
    'RUN --mount=\\"a=b,c\\",d=e x',
    "RUN --mount=target=a\\ b x",
    "RUN -- --x",
    'RUN ["a", "\\u0001é\\ud83d\\ude00"]',
    "RUN",
    "RUN <<A cat <<-B\n1\nA\n\t2\nB",
    "RUN <<A\n1\n\nA",
    "CMD []",
    "COPY --from=a --chown=b --chmod=c --link --parents --exclude=d --exclude=e f g h",
    'COPY ["a b", "", "<<c"]',
    'COPY ["<<a", "b"]',
    "COPY [a b]",
    "COPY -- --a b",
    "COPY a <<B c /d\n1\nB",
    "ADD --checksum=a --keep-git-dir=false --unpack b c",
    "ENV a=b c='d e' f=",
    "ENV a  b c",
    "ENV -- --a=b",
    "ENV \\  a=b c",
    "ARG a b= c='d e'",
    'LABEL a="open',
    "EXPOSE 1 2/udp",
    'VOLUME ["a b"]',
    "HEALTHCHECK --interval=1500ms --timeout=1h --start-period=1us1ms --start-interval=2m --retries=3 CMD a",
    "HEALTHCHECK NONE",
    "ONBUILD RUN <<A\n1\nA",
    'SHELL ["a", "b c"]',
    "STOPSIGNAL 9",
    "MAINTAINER a b",
    "INCLUDE a b",
    "UNSET LABEL a b",
    "RUN a\\\f",
]


@pytest.mark.parametrize("text", UNPARSED)
def test_what_is_printed_parses_to_the_same(text: str) -> None:
    """Every form of every instruction."""
    buildfile = parse(text)
    assert parse(unparse(buildfile)) == buildfile


def test_directives_are_printed() -> None:
    """They change how the rest is read."""
    text = "# syntax=a/b:1\n# escape=`\n# check=skip=A,B;experimental=all;error=true\nFROM x\nENV a=b` c\n"
    assert unparse(parse(text)) == text


def test_a_heredoc_is_printed_before_what_could_swallow_it() -> None:
    """A quote that a source leaves open ends in the destination."""
    buildfile = parse('FROM x\nCOPY <<one <<-"two" /co["a", "b c"]nf/\nx\none\n\ty\ntwo\n')
    assert parse(unparse(buildfile)) == buildfile
