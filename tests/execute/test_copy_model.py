"""COPY against a model of it: a dictionary of files, to which the sources are applied one after the other."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from layersmith.errors import CopyError
from layersmith.execute.copy import copy_items
from layersmith.execute.tree import Tree
from layersmith.layer.entry import DIR, REG
from layersmith.ops import CopyOp, InlineSource, PathSource, StepInput

STAGE = StepInput(0)
NAMES = st.sampled_from(["a", "b", "c"])
FILES = st.recursive(
    st.text(alphabet="xyz", max_size=2), lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=6
)
TREES = st.dictionaries(NAMES, FILES, max_size=3)
Files = Mapping[str, Any]


def write(path: Path, files: Files | str) -> None:
    if isinstance(files, str):
        path.write_text(files)
        return
    path.mkdir()
    for name, inner in files.items():
        write(path / name, inner)


def flat(files: Files, prefix: str = "") -> dict[str, str | None]:
    """Path -> content, None for directories."""
    result: dict[str, str | None] = {}
    for name, inner in files.items():
        result[prefix + name] = inner if isinstance(inner, str) else None
        if not isinstance(inner, str):
            result |= flat(inner, f"{prefix}{name}/")
    return result


def model(below: Files, sources: list[Files | str], dest: str) -> dict[str, str | None] | None:
    """What is there after the copy; None where it must fail."""
    image = flat(below)
    parts = dest.strip("/").split("/")
    for end in range(1, len(parts)):
        if image.setdefault("/".join(parts[:end])) is not None:
            return None
    top = "/".join(parts)
    if dest.endswith("/") and image.setdefault(top) is not None:
        return None
    for number, source in enumerate(sources):
        if isinstance(source, str):
            path = f"{top}/file{number}" if top in image and image[top] is None else top
            if path in image and image[path] is None:
                return None
            image[path] = source
        else:
            for path, content in {top: None, **flat(source, top + "/")}.items():
                if path in image and (image[path] is None) != (content is None):
                    return None
                image[path] = content
    return image


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    below=TREES,
    sources=st.lists(TREES | st.text(alphabet="uvw", max_size=2), min_size=1, max_size=3),
    dest=st.sampled_from(["/a", "/a/", "/a/b", "/n/m", "/n/"]),
)
def test_copy_is_its_model(
    make_below: Callable[..., Any], below: Files, sources: list[Files | str], dest: str
) -> None:
    """The items, applied to what was below, give the model's files; where the model fails, so does the copy."""
    listing = flat(below)
    fake = make_below(
        *(path + "/" for path, content in listing.items() if content is None),
        **{path: content.encode() for path, content in listing.items() if content is not None},
    )
    root = Path(tempfile.mkdtemp())
    try:
        given_sources: list[PathSource | InlineSource] = []
        for number, source in enumerate(sources):
            write(root / f"file{number}", source)
            given_sources.append(PathSource(f"file{number}", STAGE))
        expected = model(below, sources, dest)
        image = dict(listing)
        try:
            for entry, content in copy_items(
                CopyOp(tuple(given_sources), dest), {STAGE: Tree(root, "stage")}, {}, fake, now=0
            ):
                path = os.fsdecode(entry.path)
                if entry.kind == DIR:
                    assert image.get(path) is None, "a directory over a file"
                    image[path] = None
                else:
                    assert entry.kind == REG and isinstance(content, int)
                    assert image.get(path, "") is not None, "a file over a directory"
                    image[path] = os.pread(content, 100, 0).decode()
        except CopyError:
            assert expected is None
        else:
            assert image == expected
    finally:
        shutil.rmtree(root)
