"""Platforms: parsing, normalisation and matching, after containerd/platforms' own tests."""

import pytest

from layersmith.errors import UsageError
from layersmith.oci.platform import Platform, best, matches, native, parse_platform


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/arm/6", "linux/arm/v6"),
        ("Linux/AMD64", "linux/amd64"),
        ("linux/i386", "linux/386"),
        ("macos/arm64", "darwin/arm64"),
        ("windows/amd64", "windows/amd64"),
    ],
)
def test_aliases_are_resolved(text: str, wanted: str) -> None:
    """What people write becomes Go's names, and variants that say nothing are dropped."""
    assert str(parse_platform(text)) == wanted


def test_the_rest_comes_from_this_machine() -> None:
    """An operating system or an architecture alone is completed."""
    here = native()
    assert parse_platform("linux") == Platform("linux", here.architecture, here.variant)
    assert parse_platform("riscv64") == Platform("linux", "riscv64")


@pytest.mark.parametrize("text", ["", "/", "linux/", "a/b/c/d", "linux amd64", "toaster", "linux/*"])
def test_nonsense_is_refused(text: str) -> None:
    """What is no platform is a UsageError."""
    with pytest.raises(UsageError):
        parse_platform(text)


@pytest.mark.parametrize(
    ("want", "have", "wanted"),
    [
        ("linux/amd64", "linux/amd64", True),
        ("linux/amd64", "linux/arm64", False),
        ("linux/amd64", "windows/amd64", False),
        ("linux/amd64/v3", "linux/amd64", True),
        ("linux/amd64/v3", "linux/amd64/v2", True),
        ("linux/amd64", "linux/amd64/v3", False),
        ("linux/arm/v7", "linux/arm/v6", True),
        ("linux/arm/v6", "linux/arm/v7", False),
        ("linux/arm", "linux/arm/v5", True),
        ("linux/arm64", "linux/arm64/v8", True),
    ],
)
def test_lower_variants_run_on_higher_ones(want: str, have: str, wanted: bool) -> None:
    """An image for a lower variant can be used, one for a higher one can't."""
    parts = have.split("/")
    assert matches(parse_platform(want), Platform(*parts)) is wanted


def test_the_highest_variant_that_runs_is_best() -> None:
    """Of an index, the image for the closest variant is taken; None is not an image."""
    haves = [
        None,
        Platform("linux", "arm", "v5"),
        Platform("linux", "arm", "v6"),
        Platform("linux", "arm", "v8"),
    ]
    assert best(parse_platform("linux/arm/v7"), haves) == 2
    assert best(parse_platform("linux/amd64"), haves) is None
