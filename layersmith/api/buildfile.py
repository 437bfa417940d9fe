"""A Buildfile as a value: parse it, look into it, check it, format it. In: text. Out: stages, findings, text."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Self

from layersmith.dataclass import dataclass

if TYPE_CHECKING:
    from layersmith.buildfile.instructions import Instruction, Stage
    from layersmith.buildfile.rules import Finding


@dataclass(frozen=True, slots=True)
class Buildfile:
    """The text of a Buildfile (or Dockerfile), known to parse.

    >>> file = Buildfile.parse("FROM alpine AS base\\nRUN true\\nFROM base\\n")
    >>> file.targets
    ('base',)
    >>> [type(instruction).__name__ for instruction in file.stages[0].instructions]
    ['Run']
    """

    text: bytes
    name: str = "Buildfile"
    """What messages call it."""

    @classmethod
    def parse(cls, text: str | bytes, name: str = "Buildfile") -> Self:
        """The Buildfile that says ``text``. Raises BuildfileSyntaxError, with the place and a hint."""
        from layersmith.buildfile.parser import parse

        parse(text, name)
        return cls(text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text, name)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """The Buildfile at ``path``. Raises OSError, BuildfileSyntaxError."""
        return cls.parse(Path(path).read_bytes(), os.fspath(path))

    @property
    def instructions(self) -> tuple[Instruction, ...]:
        """All instructions in order, each with the ``span`` (lines and columns) that it takes up."""
        from layersmith.buildfile.parser import parse

        return parse(self.text, self.name).instructions

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages: ``name`` (None without AS), ``from_`` (the FROM), ``instructions``. INCLUDEs are not followed.

        Raises PlanError: there is no FROM.
        """
        from layersmith.buildfile.parser import parse, stages

        return stages(parse(self.text, self.name))[1]

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of the stages that have one: what ``target`` of `build` takes."""
        return tuple(stage.name for stage in self.stages if stage.name)

    def check(
        self, *, build_args: Mapping[str, str] | None = None, dialect: str = "layersmith"
    ) -> tuple[Finding, ...]:
        """What ``layersmith check`` finds, by line: each has ``rule``, ``level``, ``message`` and ``span``.

        ``dialect="dockerfile"``: what ``docker build`` would not understand is an error.
        """
        from layersmith.buildfile.lint import LintOptions, lint
        from layersmith.buildfile.parser import parse

        return lint(
            parse(self.text, self.name), LintOptions(dialect=dialect, build_args=dict(build_args or {}))
        )

    def formatted(self) -> str:
        """The text in the canonical style, as ``layersmith fmt`` writes it."""
        from layersmith.buildfile.format import fmt

        return fmt(self.text, self.name)

    def __str__(self) -> str:
        return self.text.decode("utf-8", "surrogateescape")
