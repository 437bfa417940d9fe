"""Texts that are nearly Buildfiles."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

FRAGMENTS = (
    *(
        "FROM",
        "RUN",
        "COPY",
        "ADD",
        "ENV",
        "LABEL",
        "ARG",
        "CMD",
        "ENTRYPOINT",
        "HEALTHCHECK",
        "ONBUILD",
        "SHELL",
    ),
    *(
        "EXPOSE",
        "VOLUME",
        "USER",
        "WORKDIR",
        "STOPSIGNAL",
        "MAINTAINER",
        "INCLUDE",
        "UNSET",
        "run",
        "Copy",
        "FORM",
    ),
    *("AS", "NONE", "scratch", "a", "b/", "/c", "x=1", "y=", "=z", "80/tcp", "é", "5s", "name", "as"),
    *(
        "--from=a",
        "--link",
        "--chown=1:1",
        "--mount=type=cache,target=/x",
        "--no-cache",
        "--retry=2",
        "--timeout=1m",
    ),
    *(
        "--interval=5s",
        "--retries=3",
        "--exclude=*.x",
        "--platform=$P",
        "--",
        "--x",
        "--network=none",
        "--unpack=false",
    ),
    *("<<EOF", "<<-E", "<<'Q'", '3<<"R"', "<< S", "\nEOF\n", "\n\tE\n", "\nQ\n", "\nR\n", "\nS\n"),
    *(
        '["a"]',
        '["a", "b c"]',
        "[",
        "]",
        '"',
        "'",
        "\\",
        "\\\\",
        "`",
        "$",
        "${",
        "}",
        "$a",
        "${a:-b}",
        "#",
        "# x",
    ),
    *(
        " ",
        "  ",
        "\t",
        "\n",
        "\n\n",
        "\r\n",
        " \\\n",
        "\\\n  ",
        "\\\n# c\n",
        "\v",
        "\f",
        "\x85",
        "\xa0",
        "\u3000",
        "\x1c",
    ),
    *(
        "# escape=`\n",
        "# syntax=a/b:1 c\n",
        "# check=skip=A,B;error=true\n",
        "#!/x\n",
        "\ufeff",
        "\udc80",
        "\0",
    ),
)


@pytest.fixture(scope="session")
def nearly_buildfiles() -> st.SearchStrategy[str]:
    """Lines of plausible pieces in implausible order, now and then any text at all."""
    words = st.lists(st.sampled_from(FRAGMENTS), max_size=8).map(" ".join)
    glued = st.lists(st.sampled_from(FRAGMENTS), max_size=8).map("".join)
    line = st.one_of(words, words, glued)
    lines = st.lists(line, max_size=6).map("\n".join)
    return st.one_of(lines, lines, lines.map(lambda text: "FROM x\n" + text), st.text(max_size=60))
