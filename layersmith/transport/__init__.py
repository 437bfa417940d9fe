"""EXPORT and FROM: images between the store and archives, directories and registries.

Loaded on demand: whoever fetches a URL need not import what writes archives.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layersmith.transport.export import push, save
    from layersmith.transport.host import import_host
    from layersmith.transport.layout import Loaded
    from layersmith.transport.loading import load
    from layersmith.transport.output import Output, parse_output
    from layersmith.transport.rootfs import ImportOptions, import_rootfs

__all__ = [
    "ImportOptions",
    "Loaded",
    "Output",
    "import_host",
    "import_rootfs",
    "load",
    "parse_output",
    "push",
    "save",
]

_MODULES = {
    "ImportOptions": "rootfs",
    "Loaded": "layout",
    "Output": "output",
    "import_host": "host",
    "import_rootfs": "rootfs",
    "load": "loading",
    "parse_output": "output",
    "push": "export",
    "save": "export",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
