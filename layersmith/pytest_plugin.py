"""Images in tests: fixtures for pytest, which finds this by the entry point ``pytest11``. In: a test. Out: images, stores.

    def test_it_greets(build_image):
        image = build_image("examples/hello", build_args={"WHO": "tests"})
        assert image.run().stdout == "Hello from a container, tests\\n"

Builds go into the store of the command line, so that a second run of the tests finds everything cached; give
``--layersmith-root=DIR`` (or ``layersmith_root`` in the ini file) for another one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    import os

    from layersmith.api import Image, Store


class BuildImage(Protocol):
    """What `build_image` is: `layersmith.build` into the tests' store."""

    def __call__(self, context: str | os.PathLike[str] = ".", **options: Any) -> Image: ...


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("layersmith", "container images")
    group.addoption("--layersmith-root", metavar="DIR", help="the store that tests build into")
    parser.addini("layersmith_root", "the store that tests build into (default: the user's own)", default="")


@pytest.fixture(scope="session")
def layersmith_store(request: pytest.FixtureRequest) -> Store:
    """The `layersmith.Store` that the tests build into."""
    from layersmith.api import Store

    return Store(
        request.config.getoption("--layersmith-root") or request.config.getini("layersmith_root") or None
    )


@pytest.fixture
def build_image(layersmith_store: Store, request: pytest.FixtureRequest) -> Iterator[BuildImage]:
    """Builds images, with the arguments of `layersmith.build`; what the steps wrote is shown if the test fails.

    Images without ``tags`` are removed after the test; the cache keeps what their steps made.
    """
    from layersmith.errors import LayersmithError
    from layersmith.progress import StepOutput

    made: list[Image] = []

    def build(context: str | os.PathLike[str] = ".", **options: Any) -> Image:
        told = options.pop("progress", None)
        output: list[bytes] = []

        def progress(event: Any) -> None:
            if isinstance(event, StepOutput):
                output.append(event.data)
            if told is not None:
                told(event)

        try:
            image = layersmith_store.build(context, progress=progress, **options)
        finally:
            if output:
                text = b"".join(output).decode("utf-8", "replace")
                request.node.add_report_section("call", "layersmith", text)
        if not options.get("tags"):
            made.append(image)
        return image

    yield build
    for image in dict.fromkeys(made):
        try:
            if not layersmith_store.image(image.digest).names:
                image.remove()
        except LayersmithError:
            pass  # another test has removed it, or a container uses it
