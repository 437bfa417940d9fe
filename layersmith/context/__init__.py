"""CONTEXT: a build context as a directory on disk, and what of it a COPY may see. In: paths. Out: `Context`."""

from __future__ import annotations

from layersmith.context.context import Context
from layersmith.context.ignore import Ignore, parse_ignore

__all__ = ["Context", "Ignore", "parse_ignore"]
