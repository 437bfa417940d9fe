"""PARSE: variables and quotes in words. In: a word as written, and an environment. Out: its value(s)."""

from __future__ import annotations

from collections.abc import Mapping


def expand(text: str, env: Mapping[str, str], *, escape: str = "\\", unset: set[str] | None = None) -> str:
    """Expand ``$variables`` in ``text`` and remove quotes and escapes, without splitting it.

    ``unset``, if given, gets the name of every variable that was looked up plainly and is not in ``env``.
    Raises `ExpansionError`. Rules: BuildKit, frontend/dockerfile/shell/lex.go (``ProcessWord``).
    """
    raise NotImplementedError


def expand_words(
    text: str, env: Mapping[str, str], *, escape: str = "\\", unset: set[str] | None = None
) -> list[str]:
    """Like `expand`, but split at unquoted blanks, before and after expansion (``ProcessWords``; EXPOSE)."""
    raise NotImplementedError


def expand_heredoc(body: str, env: Mapping[str, str], *, unset: set[str] | None = None) -> str:
    """Expand ``$variables`` in a heredoc's body: quotes are text, the escape is always a backslash and goes away."""
    raise NotImplementedError
