"""The end of a build, in words. In: counts of steps, and `ImageBuilt`. Out: lines."""

from __future__ import annotations

from collections.abc import Mapping

from layersmith.cli.units import human_seconds, human_size
from layersmith.progress import ImageBuilt


def count_line(how: Mapping[str, int], built: ImageBuilt) -> str:
    """``7 steps in 12.3s: 3 ran, 4 cached; 5 layers, 43MB``."""
    steps = sum(how.values())
    parts = [f"{how[word]} {word}" for word in ("ran", "cached") if how.get(word)]
    counted = f"{_plural(steps, 'step')} in {human_seconds(built.seconds)}" + (
        f": {', '.join(parts)}" if parts else ""
    )
    layers = f"{_plural(len(built.layers), 'layer')}, {human_size(sum(layer.size for layer in built.layers))}"
    return f"{counted}; {layers}"


def built_line(built: ImageBuilt) -> str:
    """The image's digest and its names."""
    names = f" as {', '.join(built.names)}" if built.names else ""
    return f"built {built.digest}{names}"


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
