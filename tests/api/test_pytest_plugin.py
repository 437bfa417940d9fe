"""The fixtures for pytest, in a pytest of their own: found by the entry point's module, with and without failures."""

from __future__ import annotations

from pathlib import Path

import pytest

import layersmith

pytest_plugins = ["pytester"]

TESTS = """
    import layersmith

    made = []
    TEXT = "FROM base\\nRUN echo from the step; echo built >/x\\nCMD cat /x\\n"

    def test_it_is_built_and_run(build_image, tmp_path):
        image = build_image(tmp_path, file=layersmith.Buildfile.parse(TEXT))
        assert image.run().stdout == "built\\n"
        made.append(image)

    def test_it_is_gone(layersmith_store):
        assert made and made[0] not in layersmith_store.images()

    def test_it_fails(build_image, tmp_path):
        assert not build_image(tmp_path, file=layersmith.Buildfile.parse(TEXT), no_cache=True)
"""


def test_images_in_tests(pytester: pytest.Pytester, store: layersmith.Store) -> None:
    """Built into the store that the option names, removed afterwards, and the steps' output shown on failure."""
    pytester.makepyfile(TESTS)
    pytester.makeini("[pytest]\naddopts = -p layersmith.pytest_plugin\n")
    pytester.syspathinsert(Path(__file__).parents[2])
    done = pytester.runpytest_subprocess(f"--layersmith-root={store.root}")
    done.assert_outcomes(passed=2, failed=1)
    done.stdout.fnmatch_lines(["*Captured layersmith*", "from the step"])


def test_the_ini_file_names_a_store(pytester: pytest.Pytester, tmp_path: Path) -> None:
    """And nothing is made there before something is built."""
    pytester.makepyfile(
        f"def test_root(layersmith_store): assert str(layersmith_store.root) == {str(tmp_path / 's')!r}"
    )
    pytester.makeini(f"[pytest]\naddopts = -p layersmith.pytest_plugin\nlayersmith_root = {tmp_path / 's'}\n")
    pytester.syspathinsert(Path(__file__).parents[2])
    pytester.runpytest_subprocess().assert_outcomes(passed=1)
    assert not (tmp_path / "s").exists()
