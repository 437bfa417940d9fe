"""PARSE: variables and quotes in words. In: a word as written, and an environment. Out: its value(s).

What each ``$…`` means is said in `expansion`; here is what the uses of it differ in: splitting, and what stays as written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from layersmith.buildfile.expansion import SPACE, Piece, Quotes, Scanner


def expand(text: str, env: Mapping[str, str], *, escape: str = "\\", unset: set[str] | None = None) -> str:
    """Expand ``$variables`` in ``text`` and remove quotes and escapes, without splitting it (``ProcessWord``).

    ``unset``, if given, gets the name of every variable that is not in ``env`` and had no ``-``, ``+`` or ``?`` to
    say what then. Raises `ExpansionError`, without a span.
    """
    return Scanner(text, env, escape=escape, unset=unset).expand()


def expand_words(
    text: str, env: Mapping[str, str], *, escape: str = "\\", unset: set[str] | None = None
) -> list[str]:
    """Like `expand`, but split at unquoted blanks, also those that variables bring (``ProcessWords``; EXPOSE)."""
    return split(Scanner(text, env, escape=escape, unset=unset).pieces())


def expand_heredoc(body: str, env: Mapping[str, str], *, unset: set[str] | None = None) -> str:
    """Expand ``$variables`` in a heredoc's body: quotes are text, the escape is always a backslash and goes away."""
    return Scanner(body, env, escape="\\", unset=unset, quotes=Quotes.TEXT).expand()


def raw_words(text: str) -> list[str]:
    """Split ``text`` at unquoted blanks, leaving quotes, escapes and variables as written; ``<< EOF`` is one word.

    Raises `ExpansionError` where quotes or braces do not match.
    """
    scanner = Scanner(text, {}, escape="\\", quotes=Quotes.KEEP, keep_variables=True, keep_escapes=True)
    return split(scanner.pieces())


def bare_words(text: str) -> list[str]:
    """Split ``text`` at unquoted blanks and remove quotes and escapes, but leave variables as written."""
    return split(Scanner(text, {}, escape="\\", keep_variables=True).pieces())


def split(pieces: list[Piece]) -> list[str]:
    """Words of ``pieces``. As in BuildKit an empty pair of quotes makes no word of its own."""
    words: list[str] = []
    word: list[str] = []
    for text, splits in pieces:
        if not splits:
            word.append(text)
            continue
        first, *others = _SPACES.split(text)
        word.append(first)
        for other in others:
            words.append("".join(word))
            word = [other]
    words.append("".join(word))
    return [word for word in words if word]


_SPACES = re.compile(f"[{SPACE}]+")
