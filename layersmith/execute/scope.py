"""EXECUTE: which files below a source are copied. In: ignore rules, ``--exclude``, ``--parents``. Out: a verdict per name.

A `Scope` belongs to one directory of a walk and carries what matched above it, so that each name is matched once.
"""

from __future__ import annotations

import enum

from layersmith.context.patterns import Patterns, State
from layersmith.dataclass import dataclass


class Verdict(enum.Enum):
    """What becomes of a name."""

    KEEP = "keep"
    """Copy it; for a directory, ask about what is in it as well."""
    SKIP = "skip"
    """Leave it out with all that is in it."""
    LAZY = "lazy"
    """A hidden directory with a re-included path below: copied as usual, but only if there is something in it."""
    PASS = "pass"
    """A directory outside of ``--parents``' patterns, or excluded: made only where something below needs it."""


@dataclass(frozen=True, slots=True)
class Scope:
    """The filter of one directory.

    ``path`` is the directory in its tree, with a trailing slash unless it is the root: ignore rules see
    ``path + name``. ``below`` is the same from the source on: includes and excludes see ``below + name``.
    """

    ignore: Patterns | None
    include: Patterns | None
    exclude: Patterns | None
    path: str = ""
    below: str = ""
    ignored: State | None = None
    included: State | None = None
    excluded: State | None = None

    def judge(self, name: str, *, is_dir: bool) -> tuple[Verdict, Scope | None]:
        """The verdict on ``name``, and the scope of the directory it is (None where nothing is filtered below)."""
        path, below = self.path + name, self.below + name
        ignored = included = excluded = None
        verdict = Verdict.KEEP
        if self.ignore is not None:
            hit, ignored = self.ignore.match(path, self.ignored)
            if hit:
                if not is_dir or not self.ignore.may_unmatch_below(path):
                    return Verdict.SKIP, None
                verdict = Verdict.LAZY
        if self.exclude is not None:
            hit, excluded = self.exclude.match(below, self.excluded)
            if hit:
                if not is_dir or not self.exclude.may_unmatch_below(below):
                    return Verdict.SKIP, None
                verdict = Verdict.PASS
        if self.include is not None:
            hit, included = self.include.match(below, self.included)
            if not hit:
                if not is_dir or not self.include.may_match_below(below):
                    return Verdict.SKIP, None
                verdict = Verdict.PASS
        if not is_dir:
            return verdict, None
        scope = Scope(
            self.ignore, self.include, self.exclude, path + "/", below + "/", ignored, included, excluded
        )
        return verdict, scope


def scope_at(
    path: str, ignore: Patterns | None, include: Patterns | None = None, exclude: Patterns | None = None
) -> Scope | None:
    """The scope of a source directory at ``path`` in its tree (``""`` is the root); None where all is copied."""
    if not (ignore or include or exclude):
        return None
    ignored = ignore.match_deep(path)[1] if ignore and path else None
    prefix = path + "/" if path else ""
    return Scope(ignore or None, include or None, exclude or None, prefix, "", ignored)
