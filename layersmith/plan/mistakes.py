"""PLAN: what is wrong with a file, all of it in one run. In: a Buildfile. Out: its errors, in the order of its lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from layersmith import ops
from layersmith.buildfile.instructions import Buildfile
from layersmith.errors import BuildfileError, ExpansionError, LayersmithError, RequiredVariableError
from layersmith.image import SCRATCH, Image
from layersmith.oci.platform import Platform
from layersmith.plan.model import Bases, PlanOptions


def mistakes(buildfile: Buildfile, build_args: Mapping[str, str]) -> tuple[BuildfileError, ...]:
    """What keeps a build of any target from being planned, whatever its bases hold: no image is asked for.

    What a variable decides is not judged, since a base may set it.
    """
    from layersmith.plan.planner import Planner
    from layersmith.plan.steps import Steps

    options = PlanOptions(build_args=build_args, insecure=True)
    try:
        planner = Planner(buildfile, options, _AnyBases(), Steps())
    except BuildfileError as error:
        return (error,) if _certain(error) else ()
    for index in range(len(planner.stages)):
        with suppress(LayersmithError):
            planner.fold(index)
    return tuple(filter(_certain, _ordered(planner.mistakes)))


def _certain(error: BuildfileError) -> bool:
    if isinstance(error, ExpansionError):
        return not isinstance(error, RequiredVariableError)
    span = error.span
    return span is None or not any(
        "$" in span.source.line(number) for number in range(span.line, span.end_line + 1)
    )


class _AnyBases:
    """Every name is an image, of which nothing is known."""

    def image(self, name: str, platform: Platform) -> Image:
        return SCRATCH(platform)

    def context(self, name: str, platform: Platform) -> Image | ops.ContextInput | None:
        return None


class Until:
    """``bases`` until a mistake is found, then as `_AnyBases`: nobody wants to wait for an image to hear of a misspelling."""

    def __init__(self, bases: Bases, mistakes: Sequence[BuildfileError]) -> None:
        self._bases = bases
        self._mistakes = mistakes
        self._known: int | None = None

    def image(self, name: str, platform: Platform) -> Image:
        if not self._mistakes:
            return self._bases.image(name, platform)
        if self._known is None:
            self._known = len(self._mistakes)
        return SCRATCH(platform)

    def context(self, name: str, platform: Platform) -> Image | ops.ContextInput | None:
        return self._bases.context(name, platform)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Raise all mistakes of the block as one error, the first in the file, which holds the others."""
        try:
            yield
        except LayersmithError:
            if not self._mistakes:
                raise
        if self._mistakes:
            known = len(self._mistakes) if self._known is None else self._known
            first, *others = _ordered([*self._mistakes[:known], *filter(_certain, self._mistakes[known:])])
            first.others = tuple(others)
            raise first


def _ordered(found: Sequence[BuildfileError]) -> list[BuildfileError]:
    """Each once, by place: a stage that can't begin is met by all that need it."""
    unique = {(str(error.span), error.message): error for error in found}
    return sorted(unique.values(), key=_place)


def _place(error: BuildfileError) -> tuple[int, int]:
    return (error.span.line, error.span.column) if error.span else (0, 0)
