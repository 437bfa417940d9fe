"""EXECUTE: `Tree`, a directory that a COPY reads from. In: a context or the merged files of a step. Out: safe access."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from layersmith.context import Context, Ignore


@dataclass(frozen=True, slots=True)
class Tree:
    """A source root. Whatever is below is hostile: paths resolve inside ``root`` and nowhere else."""

    root: Path
    label: str
    """How messages call it: ``the build context``, ``stage build``."""
    ignore: Ignore | None = None
    keep_owners: bool = True
    """Off for contexts, whose files all become 0:0."""

    @classmethod
    def of_context(cls, context: Context) -> Tree:
        """The tree of a build context: ignore rules apply, owners become 0:0."""
        return cls(context.root, context.label, context.ignore, keep_owners=False)
