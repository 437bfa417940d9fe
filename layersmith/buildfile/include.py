"""PARSE: INCLUDE (an extension). In: a Buildfile, and a way to read the context's files. Out: one Buildfile without INCLUDE.

The included file's instructions take the place of the INCLUDE; their spans point into their own file.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator

from layersmith.buildfile.instructions import Buildfile, Include, Instruction
from layersmith.buildfile.parser import MOST_INSTRUCTIONS, parse
from layersmith.buildfile.suggest import shown
from layersmith.errors import BuildfileSyntaxError, located

DEEPEST = 32
MOST_INCLUDES = 1000

Read = Callable[[str], str | bytes | None]


def resolve_includes(buildfile: Buildfile, read: Read, *, path: str = "Buildfile") -> Buildfile:
    """``buildfile`` with every INCLUDE replaced by what it names.

    ``path`` is the file's place in the context (any name in its root, if it lies elsewhere): INCLUDE is relative to it.
    ``read`` takes a path below the context's root, with ``/`` and without ``..``, and gives the text, or None where there
    is no such file; that no symlink leads it outside is its business. Raises `BuildfileSyntaxError`, which names the
    chain of files.
    """
    if not any(isinstance(instruction, Include) for instruction in buildfile.instructions):
        return buildfile
    instructions: list[Instruction] = []
    for instruction in _flattened(buildfile, _Reader(read), (posixpath.normpath(path),)):
        instructions.append(instruction)
        if len(instructions) > MOST_INSTRUCTIONS:
            raise BuildfileSyntaxError(
                f"with what it includes this Buildfile has more than {MOST_INSTRUCTIONS} instructions",
                span=instruction.span,
            )
    return Buildfile(buildfile.source, buildfile.directives, tuple(instructions))


class _Reader:
    """``read`` with a count: includes that double at each level must end, be there instructions in them or not."""

    def __init__(self, read: Read) -> None:
        self.read = read
        self.count = 0

    def parsed(self, path: str, chain: tuple[str, ...]) -> Buildfile:
        self.count += 1
        if self.count > MOST_INCLUDES:
            raise BuildfileSyntaxError(f"INCLUDE is done more than {MOST_INCLUDES} times")
        text = self.read(path)
        if text is None:
            raise BuildfileSyntaxError(
                f"INCLUDE of {shown(path)}, which is not in the context",
                hint=f"included by {_chain(*chain)}; is it hidden by .dockerignore?",
            )
        try:
            return parse(text, path, fragment=True)
        except BuildfileSyntaxError as error:
            error.hint = "; ".join(filter(None, (error.hint, f"included by {_chain(*chain)}")))
            raise


def _flattened(buildfile: Buildfile, reader: _Reader, chain: tuple[str, ...]) -> Iterator[Instruction]:
    for instruction in buildfile.instructions:
        if not isinstance(instruction, Include):
            yield instruction
            continue
        with located(instruction.span):
            path = _target(instruction, chain)
            included = reader.parsed(path, chain)
            if included.directives.escape != buildfile.directives.escape:
                raise BuildfileSyntaxError(
                    f"{shown(path)} has another escape directive than {shown(chain[-1])}",
                    hint="give both files the same `# escape=` line",
                )
            yield from _flattened(included, reader, (*chain, path))


def _target(instruction: Include, chain: tuple[str, ...]) -> str:
    path = posixpath.normpath(posixpath.join(posixpath.dirname(chain[-1]), instruction.path))
    if path.startswith(("/", "../")) or path in (".", ".."):
        raise BuildfileSyntaxError(
            f"INCLUDE {shown(instruction.path)} leads outside of the context",
            hint="the path is relative to the file that has the INCLUDE, and stays in the context",
        )
    if path in chain:
        raise BuildfileSyntaxError(f"INCLUDE in a circle: {_chain(*chain, path)}")
    if len(chain) > DEEPEST:
        raise BuildfileSyntaxError(f"INCLUDE goes deeper than {DEEPEST} files: {_chain(*chain)}")
    return path


def _chain(*paths: str) -> str:
    shown_paths = paths if len(paths) <= 8 else (*paths[:4], "…", *paths[-3:])
    return " → ".join(shown_paths)
