"""In which layers and in what of their configs two images differ. In: two images. Out: changes as plain tuples."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from typing import Any

from layersmith.anatomy.layers import history
from layersmith.image import Image
from layersmith.oci.config import ImageConfig
from layersmith.oci.descriptor import Layer

TOLD_ELSEWHERE = ("history", "rootfs", "created")


def layer_parts(old: Image, new: Image) -> Iterator[tuple[str, Layer, str]]:
    """(``=``, ``D`` or ``A``; layer; the command that made it), lowest first: in both images, in ``old`` only, in ``new`` only.

    Layers are the same if their files are: compression does not matter.
    """
    sides = [[line for line in history(image) if line.layer is not None] for image in (old, new)]
    ids = [[line.layer.diff_id for line in side if line.layer is not None] for side in sides]
    matcher = difflib.SequenceMatcher(None, ids[0], ids[1], autojunk=False)
    for tag, old_from, old_to, new_from, new_to in matcher.get_opcodes():
        for line in sides[0][old_from:old_to]:
            assert line.layer is not None
            yield "=" if tag == "equal" else "D", line.layer, line.history.created_by or ""
        for line in sides[1][new_from:new_to] if tag != "equal" else ():
            assert line.layer is not None
            yield "A", line.layer, line.history.created_by or ""


def config_changes(old: ImageConfig, new: ImageConfig) -> list[tuple[str, str, str, str]]:
    """(``A``, ``C`` or ``D``; name such as ``Env.PATH``; value before; value after), by name; values as JSON, texts as they are."""
    before, after = (dict(_members(json.loads(config.to_json()))) for config in (old, new))
    changes = []
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            kind = "A" if name not in before else "D" if name not in after else "C"
            changes.append((kind, name, before.get(name, ""), after.get(name, "")))
    return changes


def _members(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in document.items():
        if name == "config":
            yield from _inner(value or {})
        elif name not in TOLD_ELSEWHERE and value not in (None, ""):
            yield name, _text(value)


def _inner(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in config.items():
        if name == "Env":
            for variable in value or ():
                key, _, text = variable.partition("=")
                yield f"Env.{key}", text
        elif isinstance(value, dict) and name != "Healthcheck":
            for key, inner in value.items():
                yield f"{name}.{key}", _text(inner)
        elif value not in (None, "", [], {}):
            yield name, _text(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
