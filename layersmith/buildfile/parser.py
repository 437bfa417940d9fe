"""PARSE: text to `Buildfile`. In: a text. Out: its instructions, or every syntax error in it at once."""

from __future__ import annotations

from layersmith.buildfile.instructions import Arg, Buildfile, Instruction, Stage


def parse(text: str | bytes, name: str = "Buildfile") -> Buildfile:
    """The Buildfile ``text``; ``name`` is what errors call it. Raises `BuildfileSyntaxError` with ``others``."""
    raise NotImplementedError


def parse_onbuild(text: str, name: str = "ONBUILD") -> Instruction:
    """The one instruction of a trigger from an image's config (always with the default escape)."""
    raise NotImplementedError


def stages(buildfile: Buildfile) -> tuple[tuple[Arg, ...], tuple[Stage, ...]]:
    """The global ARGs before the first FROM, and the stages. Raises `BuildfileSyntaxError` on anything else there."""
    raise NotImplementedError
