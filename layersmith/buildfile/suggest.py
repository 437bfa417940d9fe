"""PARSE: words for messages. In: a misspelled name and the known ones, or a text to show. Out: a hint, an excerpt."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The name in ``known`` that ``name`` was most likely meant to be, whatever its case; None if nothing is near."""
    import difflib  # 2 ms, and only needed for an error

    by_folded = {candidate.casefold(): candidate for candidate in known}
    for folded, candidate in by_folded.items():
        if is_slip(name.casefold(), folded):
            return candidate
    close = difflib.get_close_matches(name.casefold()[:100], by_folded, n=1, cutoff=0.7)
    return by_folded[close[0]] if close else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint for an error: ``did you mean X?``, or nothing."""
    found = nearest(name, known)
    return f"did you mean {found}?" if found else ""


def shown(text: str) -> str:
    """``text`` in quotes, cut where it is long."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def is_slip(name: str, meant: str) -> bool:
    """Is ``name`` all but ``meant``: one character more, less or other, or two changed over?"""
    if len(meant) < 3 or abs(len(name) - len(meant)) > 1:
        return False
    start = 0
    while start < min(len(name), len(meant)) and name[start] == meant[start]:
        start += 1
    rest, wanted = name[start:], meant[start:]
    return (
        wanted in (rest[1:], rest[1:2] + rest[:1] + rest[2:]) or rest[1:] == wanted[1:] or rest == wanted[1:]
    )
