"""layersmith: a daemonless container image builder.

    import layersmith

    image = layersmith.build("examples/hello", tags=["hello"])
    print(image.digest, image.run().stdout)

`build`, `start_build`, `load` and `run` do what the commands of these names do; `Store` is where images are, `Image` is one of
them, `Buildfile` is what they are built from. What goes wrong is a `LayersmithError` (the tree is in
`layersmith.errors`), what goes on an event of `layersmith.progress`. All of it is loaded when first asked for.

The line is ``text --parse--> Buildfile --plan--> Plan --solve--> Image --export--> OCI``; the module `layersmith.build`
shows it on one screen.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from layersmith.api import Build as Build
    from layersmith.api import Buildfile as Buildfile
    from layersmith.api import Image as Image
    from layersmith.api import Store as Store
    from layersmith.api import build as build
    from layersmith.api import load as load
    from layersmith.api import run as run
    from layersmith.api import start_build as start_build
    from layersmith.errors import LayersmithError as LayersmithError

__version__ = "0.1.0"

__all__ = [
    "Build",
    "Buildfile",
    "Image",
    "LayersmithError",
    "Store",
    "build",
    "load",
    "run",
    "start_build",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'layersmith' has no attribute {name!r}")
    from importlib import import_module

    module = import_module("layersmith.errors" if name == "LayersmithError" else "layersmith.api")
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


class _Package(type(sys)):  # type: ignore[misc]
    """Keeps `build` the function: importing a submodule would set its name to the module `layersmith.build`."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in __all__ and isinstance(value, type(sys))):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
